"""Log lines: one for each event, with the job's id and attempt, and without secrets."""

import json
import logging
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime

from fondation_worker.events import Event
from fondation_worker.job import Token
from fondation_worker.journal import JournalLines
from fondation_worker.redact import Redactor

# Text from elsewhere must neither forge a line nor play with a terminal.
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class _Subject:
    """What lines are about."""

    token: Token
    repository: str = ""  # not known where only a token is left of a job


_subject: ContextVar[_Subject | None] = ContextVar("subject", default=None)
_instance: ContextVar[str | None] = ContextVar("instance", default=None)


def of(instance: str) -> None:
    """Give every line from now on, also of tasks that are started from here, this worker's name."""
    _instance.set(instance)


@contextmanager
def about(token: Token, repository: str = "") -> Iterator[None]:
    """Give every line that is logged inside, also by tasks started there, the job it is about."""
    reset = _subject.set(_Subject(token, repository))
    try:
        yield
    finally:
        _subject.reset(reset)


class TextLines(logging.Formatter):
    """Lines for people; the journal keeps time and level by itself, so there they are left out."""

    def __init__(self, redact: Redactor, *, bare: bool = False) -> None:
        super().__init__()
        self._redact = redact
        self._bare = bare

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, with a traceback below it if there is one."""
        head = "" if self._bare else f"{_time(record)} {record.levelname:<7} "
        if subject := _subject.get():  # who speaks of another job names it in words
            head += f"job {subject.token.job_id} attempt {subject.token.attempt}: "
        message = _CONTROLS.sub(lambda found: repr(found[0])[1:-1], record.getMessage())
        text = f"{head}{message}"
        if record.exc_info:
            told = "\n".join(self.formatException(record.exc_info).splitlines())
            text = f"{text}\n{textwrap.indent(told, '    ', lambda _: True)}"
        return self._redact(text)


class JsonLines(logging.Formatter):
    """Lines for programs: one JSON object each."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; every text in it is redacted before it is escaped."""
        fields: dict[str, str | int] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "message": self._redact(record.getMessage()),
            "module": record.name,
        }
        if event := _event_of(record):
            fields["event"] = event.name
        if subject := _subject_of(record):
            fields |= {"jobId": subject.token.job_id, "attempt": subject.token.attempt}
            if subject.repository:
                fields["repository"] = self._redact(subject.repository)
        if record.exc_info:
            fields["traceback"] = self._redact(self.formatException(record.exc_info))
        return json.dumps(fields)


def set_up(style: str, level: str, redact: Redactor, *, to_journal: bool = False) -> None:
    """Send every line of *level* and above out, as `text` for people or `json` for programs.

    The one to standard error, the other to standard output: there it is what this program makes.
    What would be text goes to systemd's journal instead where *to_journal* says that it is there.
    """
    handler: logging.Handler
    if style == "text" and to_journal:
        handler = JournalLines(lambda record: _fields(record, redact))
        handler.setFormatter(TextLines(redact, bare=True))
    else:
        handler = logging.StreamHandler(sys.stdout if style == "json" else sys.stderr)
        handler.setFormatter({"text": TextLines, "json": JsonLines}[style](redact))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for talkative in ("aiohttp.access", "asyncio", "git"):
        logging.getLogger(talkative).setLevel(logging.WARNING)


def _fields(record: logging.LogRecord, redact: Redactor) -> Mapping[str, str]:
    """Return the journal's fields for *record*."""
    fields = {}
    if instance := _instance.get():
        fields["FONDATION_INSTANCE"] = instance
    if event := _event_of(record):
        fields |= {"FONDATION_EVENT": event.name, "MESSAGE_ID": event.id}
    if subject := _subject_of(record):
        fields["FONDATION_JOB_ID"] = subject.token.job_id
        fields["FONDATION_ATTEMPT"] = str(subject.token.attempt)
        if subject.repository:
            fields["FONDATION_REPOSITORY"] = redact(subject.repository)
    return fields


def _subject_of(record: logging.LogRecord) -> _Subject | None:
    """Return what *record* is about: the token that it carries, else whose task it comes from."""
    token, subject = getattr(record, "token", None), _subject.get()
    if isinstance(token, Token) and (subject is None or subject.token != token):
        return _Subject(token)
    return subject


def _event_of(record: logging.LogRecord) -> Event | None:
    event = getattr(record, "event", None)
    return event if isinstance(event, Event) else None


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
