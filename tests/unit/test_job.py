"""Jobs at the door: what is taken, and what is refused before git sees it."""

import contextlib
import string

import pytest
from hypothesis import given, strategies as st

from fondation_worker.errors import InvalidJob
from fondation_worker.job import Job

DOCUMENT = {
    "id": "k57",
    "attempt": 2.0,
    "attempts": 1.0,
    "maxAttempts": 5.0,
    "prompt": "look at it",
    "repository": "owner/name",
    "cloneUrl": "https://github.com/owner/name.git",
    "priority": 0.0,
    "createdAt": 1.0,
}


def job(**changes: object) -> Job:
    """Return a job, with some fields as given."""
    return Job.from_document(DOCUMENT | changes)


def test_numbers_arrive_as_floats_and_unknown_fields_are_ignored() -> None:
    """Convex has floats only, and may grow."""
    parsed = job(added_later={"x": 1.0})
    assert (parsed.attempt, parsed.max_attempts) == (2, 5)
    assert isinstance(parsed.attempt, int)


@pytest.mark.parametrize("field", ["prompt", "cloneUrl", "maxAttempts"])
def test_a_missing_field_is_named(field: str) -> None:
    """The text goes to the job's row."""
    document = {name: value for name, value in DOCUMENT.items() if name != field}
    with pytest.raises(InvalidJob, match=field):
        Job.from_document(document)


@given(st.recursive(st.none() | st.floats() | st.text(), lambda x: st.dictionaries(st.text(), x)))
def test_whatever_convex_says_is_a_job_or_an_invalid_job(document: object) -> None:
    """Nothing else may leave the door."""
    with contextlib.suppress(InvalidJob):
        Job.from_document(document)


@pytest.mark.parametrize(
    ("own", "worker", "limit"), [(None, 60, 60), (30000.0, 60, 30), (90000.0, 60, 60)]
)
def test_the_smaller_time_limit_rules(own: float | None, worker: float, limit: float) -> None:
    """A job may shorten, never lengthen."""
    assert job(timeoutMs=own).time_limit(worker) == limit


@pytest.mark.parametrize(
    "url",
    [
        "http://github.com/owner/name",
        "ssh://git@github.com/owner/name",
        "git@github.com:owner/name",
        "ext::sh -c touch% /tmp/x",
        "https://token@github.com/owner/name",
        "https://user:password@github.com/owner/name",
        "https://github.com/owner/name\n",
        "https://github.com/owner name",
        "https:///owner/name",
        "https://[::1/x",
        "--upload-pack=touch /tmp/x",
        "file:///srv/repository",
        "https://github.com/owner/\ud83d",
        "",
    ],
)
def test_a_url_that_git_must_not_be_given_is_refused(url: str) -> None:
    """Only https, without a secret in it."""
    with pytest.raises(InvalidJob, match="cloneUrl"):
        job(cloneUrl=url).source(allow_local=False)


def test_a_local_repository_needs_leave() -> None:
    """It is for laptops and tests."""
    source = job(cloneUrl="file:///srv/repository").source(allow_local=True)
    assert source.url == "file:///srv/repository"
    with pytest.raises(InvalidJob):
        job(cloneUrl="file://host/share").source(allow_local=True)


@pytest.mark.parametrize(
    "ref", ["main", "main;touch${IFS}x", "a$(id)b", "feature/x-1", "v1.0", "日本"]
)
def test_a_branch_name_that_git_allows_is_taken(ref: str) -> None:
    """No shell is near it, so it may look like one's food."""
    assert job(ref=ref).source(allow_local=False).ref == ref


FORBIDDEN = (
    "-x --upload-pack=x a..b a:b a^b a~1 /a a/ .a x/.a a//b a.lock @ a@{1} a?b a*b a[b a\\b a."
)


@pytest.mark.parametrize("ref", ["", "a b", "a\n", "refs\x00x", "\ud83d", *FORBIDDEN.split()])
def test_a_name_that_git_forbids_is_refused(ref: str) -> None:
    """Rules of git-check-ref-format(1), and nothing that could be an option."""
    with pytest.raises(InvalidJob, match="ref"):
        job(ref=ref).source(allow_local=False)


@pytest.mark.parametrize("commit", ["HEAD", "abc123", "A" * 40, "a" * 41, "-" + "a" * 39])
def test_a_commit_is_a_full_id(commit: str) -> None:
    """An abbreviation may mean another commit tomorrow."""
    with pytest.raises(InvalidJob, match="commit"):
        job(commit=commit).source(allow_local=False)


@pytest.mark.parametrize("model", ["", "-x", "two words", "nul\0", "x" * 201, "\ud83d"])
def test_a_model_is_a_name(model: str) -> None:
    """It becomes an argument."""
    with pytest.raises(InvalidJob, match="model"):
        job(model=model).chosen_model()


@pytest.mark.parametrize("model", [None, "sonnet", "claude-opus-4-8[1m]", "arn:aws:x/y.z-v1:0"])
def test_the_names_of_models_are_taken(model: str | None) -> None:
    """Of every provider's form."""
    assert job(model=model).chosen_model() == model


@given(st.text(alphabet=string.ascii_letters + "./\\-\x00 ", max_size=30))
def test_a_subdirectory_never_leaves_the_tree(path: str) -> None:
    """Neither upwards, nor to git's own files."""
    try:
        inside = job(subdirectory=path).source(allow_local=False).subdirectory
    except InvalidJob:
        return
    parts = inside.split("/")
    assert not inside.startswith("/")
    assert ".." not in parts
    assert ".git" not in parts


def test_a_url_that_cannot_be_read_is_not_quoted() -> None:
    """Without its scheme no redactor would know the password for one."""
    with pytest.raises(InvalidJob, match="is no URL") as refused:
        job(cloneUrl="https://user:hunter2@ex\u2100mple.com/a").source(allow_local=False)
    assert "hunter2" not in str(refused.value)
