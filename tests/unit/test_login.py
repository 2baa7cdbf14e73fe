"""A login of the CLI: read where it lies, and judged by who renews it."""

import json
import re
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from fondation_worker.config import Credential
from fondation_worker.errors import CredentialRefused
from fondation_worker.installation import IMAGE_PREFIX, PREFIX
from fondation_worker.login import FILE, Login, Unusable, for_a_run, read_login, why_not

HOUR = 3600.0
TOKEN = "sk-ant-oat01-placeholder"


def written(directory: Path, **changes: object) -> Credential:
    """Write a login that is good for 8 h from 0 on; return the credential that it is."""
    kept = {"accessToken": TOKEN, "refreshToken": "placeholder", "expiresAt": 8 * HOUR * 1000}
    text = json.dumps({"claudeAiOauth": kept | changes})
    (directory / FILE).write_text(text, encoding="utf-8")
    return Credential(kind="CLAUDE_CONFIG_DIR", value=str(directory))


def login(**changes: Any) -> Login:
    """Return a login in a directory that can only be read, good for 8 h from 0 on."""
    place = Path("/home/worker/.claude")
    made = Login(
        directory=place,
        token=TOKEN,
        good_until=8 * HOUR,
        renewable_until=float("inf"),
        is_kept=False,
    )
    return replace(made, **changes)


def test_a_login_that_is_renewed_is_used_where_it_lies(tmp_path: Path) -> None:
    """A run is given the directory; that the access token is over is the CLI's business."""
    credential = written(tmp_path)
    assert for_a_run(credential) == credential
    assert why_not(credential, now=9 * HOUR, reserve=HOUR) is None


@pytest.mark.parametrize(
    ("now", "reserve", "words"),
    [
        (0.0, HOUR, None),
        (7 * HOUR - 1, HOUR, None),
        (7 * HOUR, HOUR, "expires in 60 min, sooner than a job may end"),
        (7 * HOUR, 60.0, None),
        (8 * HOUR, HOUR, "expired 0 s ago"),
        (11 * HOUR, HOUR, "expired 3 h ago"),
    ],
)
def test_no_job_begins_with_a_login_that_ends_before_it(
    now: float, reserve: float, words: str | None
) -> None:
    """What it has cost by then would be lost."""
    said = login().trouble(now=now, reserve=reserve)
    assert (words is None) == (said is None)
    assert (words or "") in (said or "")
    assert TOKEN not in (said or "")


def test_a_day_long_job_asks_for_no_more_than_an_hour(tmp_path: Path) -> None:
    """An access token is good for some hours only: no job would ever begin."""
    credential = written(tmp_path, refreshToken="")
    assert why_not(credential, now=HOUR, reserve=24 * HOUR) is None


def test_one_without_a_refresh_token_ends_as_well(tmp_path: Path) -> None:
    """Though it could be written."""
    credential = written(tmp_path, refreshToken="")
    assert why_not(credential, now=0, reserve=HOUR) is None
    assert "has no refresh token" in (why_not(credential, now=8 * HOUR, reserve=HOUR) or "")


def test_no_login_is_told_with_what_to_do(tmp_path: Path) -> None:
    """Before a claim, and where a run would begin."""
    credential = Credential(kind="CLAUDE_CONFIG_DIR", value=str(tmp_path))
    assert "claude auth login" in (why_not(credential, now=0, reserve=HOUR) or "")
    with pytest.raises(CredentialRefused, match="there is no login"):
        for_a_run(credential)


def test_a_key_is_nobodys_login() -> None:
    """It is passed on as it is."""
    key = Credential(kind="ANTHROPIC_API_KEY", value="placeholder")
    assert for_a_run(key) is key
    assert why_not(key, now=0, reserve=HOUR) is None


@pytest.mark.parametrize(
    ("prefix", "words"),
    [(PREFIX, "claude auth login"), (IMAGE_PREFIX, "docker run -it --rm -v /srv/claude-creds:")],
)
def test_the_advice_is_for_where_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: Path, words: str
) -> None:
    """A container has no user whom somebody could be on the host."""
    monkeypatch.setattr(sys, "prefix", str(prefix))
    with pytest.raises(Unusable, match=words):
        read_login(tmp_path)


@pytest.mark.parametrize("time", ["NaN", "-Infinity", "-1", "[1]", "true"])
def test_a_time_that_is_none_is_no_login(tmp_path: Path, time: str) -> None:
    """It would have expired "nan s ago"."""
    kept = f'{{"claudeAiOauth": {{"accessToken": "{TOKEN}", "expiresAt": {time}}}}}'
    (tmp_path / FILE).write_text(kept, encoding="utf-8")
    with pytest.raises(Unusable, match="holds no login"):
        read_login(tmp_path)


def test_a_time_of_400_digits_is_no_fault_of_the_program(tmp_path: Path) -> None:
    """It is later than any other."""
    credential = written(tmp_path, expiresAt=10**400, refreshToken="")
    assert why_not(credential, now=9 * HOUR, reserve=HOUR) is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
)
LOGINS = st.fixed_dictionaries(
    {"accessToken": st.just(TOKEN) | VALUES},
    optional=dict.fromkeys(("refreshToken", "expiresAt", "refreshTokenExpiresAt"), VALUES),
).map(lambda kept: {"claudeAiOauth": kept})


@given(st.binary(max_size=300) | (VALUES | LOGINS).map(lambda value: json.dumps(value).encode()))
def test_whatever_the_file_holds_it_is_a_login_or_none(content: bytes) -> None:
    """A file that a crash has torn, or another version has written."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / FILE).write_bytes(content)
        try:
            found: object = read_login(Path(name))
        except Unusable as trouble:
            found = str(trouble)
    if isinstance(found, Login):
        said = found.trouble(now=0, reserve=HOUR) or ""
        assert not re.search(r"\b(nan|inf) ", said)
    else:
        assert "holds no login" in str(found)
