"""Log lines: one for each event, without secrets, in both forms."""

import json
import logging

import pytest

from fondation_worker.job import Token
from fondation_worker.logs import JsonLines, TextLines, about
from fondation_worker.redact import MASK, Redactor

SECRET = 'a"secret\\key'
REDACT = Redactor([SECRET])
TOKEN = Token(job_id="k57", lease_token="never shown", attempt=3)


def line(formatter: logging.Formatter, message: str, error: Exception | None = None) -> str:
    """Return what *formatter* makes of one event."""
    raised = (type(error), error, None) if error else None
    record = logging.LogRecord("x", logging.INFO, "x.py", 1, message, (), raised)
    return formatter.format(record)


@pytest.mark.parametrize("formatter", [TextLines(REDACT), JsonLines(REDACT)])
def test_a_secret_is_in_neither_form(formatter: logging.Formatter) -> None:
    """Not in the message, nor in a traceback, nor behind the escapes of JSON."""
    said = line(formatter, f"got {SECRET}", ValueError(f"had {SECRET}"))
    assert SECRET not in said
    assert json.dumps(SECRET)[1:-1] not in said
    assert said.count(MASK) == 2


@pytest.mark.parametrize("formatter", [TextLines(REDACT), JsonLines(REDACT)])
def test_an_event_is_one_line(formatter: logging.Formatter) -> None:
    """Text from elsewhere must not forge another."""
    forged = "first\r\n2026-11-23 ERROR forged\n\x1b[2J\x85\u2028"
    assert len(line(formatter, forged).splitlines()) == 1
    assert "\x1b" not in line(formatter, forged)


def test_a_traceback_forges_no_line() -> None:
    """Its text is whatever the exception's is; it stands apart."""
    first, *rest = line(TextLines(REDACT), "fault", ValueError("x\n2026 ERROR forged")).splitlines()
    assert first.endswith("fault")
    assert all(told.startswith("    ") for told in rest)


def test_lines_about_a_job_name_it_and_nothing_else() -> None:
    """The id and the attempt; never the token."""
    with about(TOKEN):
        text, fields = line(TextLines(REDACT), "cloned"), json.loads(line(JsonLines(REDACT), "x"))
    assert "job k57 attempt 3: cloned" in text
    assert (fields["jobId"], fields["attempt"]) == ("k57", 3)
    assert "never shown" not in text + str(fields) + repr(TOKEN)
    assert "job" not in line(TextLines(REDACT), "idle")


def test_a_traceback_is_told() -> None:
    """A fault of our own must be findable."""
    with pytest.raises(ValueError, match="the reason") as raised:
        int("the reason")
    told = (raised.type, raised.value, raised.tb)
    record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "fault", (), told)
    assert "the reason" in TextLines(REDACT).format(record)
    assert "the reason" in json.loads(JsonLines(REDACT).format(record))["traceback"]
