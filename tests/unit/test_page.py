"""The status page as a document: what it shows, and that no text on it is more than text."""

import json
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from fondation_worker.admission import Level, Reason
from fondation_worker.history import History, Past
from fondation_worker.metrics import FAILED_OUTCOMES, OTHER_OUTCOMES
from fondation_worker.snapshot import Snapshot
from fondation_worker.web.page import POLICY, SCRIPT, STYLE, rendered
from fondation_worker.web.sections import OUTCOMES
from tests.snapshots import NOW, WELL, worker
from tests.wordy import history, past, running, wordy

VOID = {"meta", "link", "rect", "wbr"}  # elements without an end; `rect` is closed at once
SECTIONS = ["headline", "slots", "vitals", "plots", "errors", "jobs"]


@dataclass
class Reader(HTMLParser):
    """Reads a document, and complains of what is not in its place."""

    tags: list[tuple[str, tuple[tuple[str, str | None], ...]]] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember an element."""
        self.tags.append((tag, tuple(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Expect the element that was opened last."""
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Remember a text."""
        self.texts.append(data)

    def attribute(self, name: str) -> list[str]:
        """Return the values of an attribute, in order."""
        return [value or "" for _, attrs in self.tags for key, value in attrs if key == name]

    @property
    def structure(self) -> list[tuple[str, ...]]:
        """The elements with the names of their attributes."""
        return [(tag, *(name for name, _ in attrs)) for tag, attrs in self.tags if tag != "wbr"]

    @property
    def text(self) -> str:
        """What is there to read, on one line."""
        return " ".join(" ".join(self.texts).split())


def read(html: str) -> Reader:
    """Return what a browser would make of *html*."""
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def shown(now: Snapshot, kept: History | None = None) -> Reader:
    """Return the page of a worker, without style and script."""
    html = str(rendered(now, kept or History()).document())
    return read(html.replace(str(STYLE), "").replace(str(SCRIPT), ""))


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    "</title></style></script>",
    "&lt;b&gt; &#60;b&#62;",
    "{0} {reasons} {0.__class__} %s",
    "`</code><b>`",
    "\N{RIGHT-TO-LEFT OVERRIDE}\x1b[31m\0\ud800",
    "<" * 5000,
)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(HOSTILE) | st.text().map("~{}".format))  # no word that the page knows
def test_no_text_is_more_than_text(text: str) -> None:
    """Whatever stands in a job's id, a name, a message or a reason: the elements are the same."""
    usual = shown(wordy(), history(past()))
    hostile = shown(wordy(text), history(past(text)))
    assert hostile.structure == usual.structure
    for name in ("class", "id", "href", "datetime", "role"):
        assert hostile.attribute(name) == usual.attribute(name)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_message_of_a_stream_is_one_line_with_the_same_html(text: str) -> None:
    """A line break within it would end it."""
    rendering = rendered(wordy(text), history(past(text)))
    message = rendering.since(None)
    assert message is not None
    assert len(message.splitlines()) == 1
    assert json.loads(message)["sections"] == rendering.sections


def test_a_direction_that_is_turned_round_is_written_out() -> None:
    """`txt.exe` must not read as `exe.txt`."""
    page = shown(worker(worker_id="a\N{RIGHT-TO-LEFT OVERRIDE}b"))
    assert r"a\u202eb" in page.text


@pytest.mark.parametrize(
    ("now", "kept"),
    [
        (WELL, history()),
        (wordy(), history(past())),
        (wordy(jobs=2), history(*[past(error_class="timeout", outcome="dead")] * 30)),
        (replace(wordy(jobs=3), slots=1), history(past(error_class=None, outcome="completed"))),
    ],
    ids=["idle", "everything", "full", "more jobs than slots"],
)
def test_the_document_is_sound(now: Snapshot, kept: History) -> None:
    """Elements are balanced, ids are unique and found, headings step down by one at a time."""
    page = shown(now, kept)
    assert [dict(attrs).get("id") for tag, attrs in page.tags if tag == "section"] == SECTIONS
    ids = page.attribute("id")
    assert len(ids) == len(set(ids))
    assert set(page.attribute("aria-labelledby") + page.attribute("aria-describedby")) <= set(ids)
    levels = [int(tag[1]) for tag, _ in page.tags if tag in {"h1", "h2", "h3"}]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert page.attribute("style") == []  # the policy would refuse them


def test_the_table_has_a_caption_and_says_whose_each_header_is() -> None:
    """A screen reader reads a cell with both of its headers."""
    page = shown(WELL, history(past(), past()))
    tags = [tag for tag, _ in page.tags]
    assert tags.count("caption") == 1
    headers = [dict(attrs) for tag, attrs in page.tags if tag == "th"]
    assert [header["scope"] for header in headers] == ["col"] * 6 + ["row"] * 2
    assert all("role" in dict(attrs) for tag, attrs in page.tags if tag in {"tr", "th", "td"})


def test_what_there_is_to_know_is_told_in_words() -> None:
    """Colour alone would be nothing for many."""
    now = replace(
        wordy(),
        worker_id="worker-7",
        paused="new disks",
        running=(replace(running(), repository="acme/shop", progress="reading a.py"),),
        reasons=(Reason(key="x", words="memory is short", level=Level.DEGRADED, blocks=True),),
    )
    text = shown(now).text
    for words in (
        "degraded worker-7 1 of 2 slots busy, claiming nothing",
        "degraded memory is short · no job is claimed meanwhile",
        "acme/shop",
        "reading a.py",
        "version some-text, up 2 h",
        "since 14:10 UTC , 3 min; no sign of life for 40 s",
        "1 slot free claims nothing now",
        "Claims paused new disks",
        "Convex unreachable",
        "last answered 1 min ago its clock is 3 s behind",
        "Outbox 3 waiting the oldest for 1 min 1 in memory only",
        "No job has ended here yet.",
    ):
        assert words in text
    assert shown(now).texts.count("degraded · worker-7") == 1  # the title


def test_a_healthy_idle_worker_says_so() -> None:
    """And nothing that would make anybody look twice."""
    text = shown(WELL).text
    assert "healthy w 0 of 2 slots busy, ready for work" in text
    assert "Everything is as it should be." in text
    assert "2 slots free waiting for work" in text
    assert "Convex push answered within the last minute" in text
    assert "Recent errors None." in text


def test_an_error_says_what_to_do() -> None:
    """In the words of docs/operations.md."""
    kept = history(past("acme/shop", error_class="too_large", outcome="dead", message="3 GiB"))
    page = shown(WELL, kept)
    assert "3 GiB What to do: raise REPOSITORY_SIZE_LIMIT or REPOSITORY_FILES_LIMIT" in page.text
    assert "failed for good" in page.text
    assert "90 s $0.50" in page.text


def test_every_outcome_has_its_words() -> None:
    """They are the labels of the metrics, and one is new some day."""
    assert set(OUTCOMES) == {*FAILED_OUTCOMES, *OTHER_OUTCOMES}


def test_the_plots_tell_their_figures_as_text() -> None:
    """Who does not see the bars reads them."""
    kept = history(past(), past(error_class=None, outcome="completed"))
    text = shown(WELL, kept).text
    assert "14:00 UTC 1 completed, 1 failed" in text
    assert "14:00 UTC $1.00" in text
    assert "03:00 UTC up to 2 an hour now" in text


def test_an_older_job_is_shown_with_its_day() -> None:
    """Times alone would be taken for today's."""
    old = Past(ended_at=NOW - 86400, job_id="1", attempt=1, repository="r", outcome="completed")
    assert "20 Sep 14:13" in shown(WELL, history(old)).text


def test_a_time_that_no_calendar_has_is_shown_all_the_same() -> None:
    """The file of the history may have been damaged."""
    odd = Past(ended_at=1e300, job_id="1", attempt=1, repository="r", outcome="completed")
    assert "1e+300" in shown(WELL, history(odd)).text


def test_a_second_that_passes_changes_nothing() -> None:
    """A page that is looked at would be sent anew all the time."""
    before = wordy()
    job = before.running[0]
    after = replace(
        before,
        now=NOW + 1,
        uptime=before.uptime + 1,
        running=(replace(job, age=job.age + 1, silent=46),),
        convex=replace(before.convex, answered=91),
        claude=replace(before.claude, paused=89.5),
        outbox=replace(before.outbox, oldest=91),
    )
    kept = history(past())
    assert rendered(after, kept).since(rendered(before, kept)) is None


def test_only_what_changed_is_sent() -> None:
    """The rest of the page stays as somebody reads it."""
    before, after = rendered(WELL, history()), rendered(WELL, history(past()))
    message = after.since(before)
    assert message is not None
    assert list(json.loads(message)["sections"]) == ["plots", "errors", "jobs"]


def test_a_page_of_twenty_jobs_is_small() -> None:
    """It is read on phones, far from the worker."""
    ended = [past("j57a1b2c3d4e5f6g7h8j9k0mnpqrstvw", message="words " * 200)] * 20
    page = rendered(wordy(jobs=2), history(*ended)).document()
    assert len(page.encode()) < 50_000


def test_nothing_outside_is_named() -> None:
    """No asset, no script, no style of anybody else."""
    page = shown(wordy(), history(past()))
    assert page.attribute("src") == []
    assert {link.partition(":")[0] for link in page.attribute("href")} == {
        *("data", "health", "readyz", "metrics")
    }
    assert "unsafe" not in POLICY
    assert "url(" not in STYLE


def test_style_and_script_are_in_the_package() -> None:
    """Beside the module that reads them, where a wheel takes them."""
    from fondation_worker.web import page  # noqa: PLC0415 its place is what is asked for

    for name in ("page.css", "page.js"):
        assert (Path(page.__file__).parent / name).is_file()
