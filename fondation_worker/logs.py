"""Log lines: one for each event, with the job's id and attempt, and without secrets."""

import json
import logging
import re
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

from fondation_worker.job import Token
from fondation_worker.redact import Redactor

# Text from elsewhere must neither forge a line nor play with a terminal.
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_job: ContextVar[Token | None] = ContextVar("job", default=None)


@contextmanager
def about(token: Token) -> Iterator[None]:
    """Give every line that is logged inside, also by tasks started there, the job's id."""
    reset = _job.set(token)
    try:
        yield
    finally:
        _job.reset(reset)


class TextLines(logging.Formatter):
    """Lines for people."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, with a traceback below it if there is one."""
        token = _job.get()
        about_job = f"job {token.job_id} attempt {token.attempt}: " if token else ""
        message = _CONTROLS.sub(lambda found: repr(found[0])[1:-1], record.getMessage())
        text = f"{_time(record)} {record.levelname:<7} {about_job}{message}"
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
        if token := _job.get():
            fields |= {"jobId": token.job_id, "attempt": token.attempt}
        if record.exc_info:
            fields["traceback"] = self._redact(self.formatException(record.exc_info))
        return json.dumps(fields)


def set_up(style: str, level: str, redact: Redactor) -> None:
    """Send every line of *level* and above to standard error, as `text` or `json`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter({"text": TextLines, "json": JsonLines}[style](redact))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for talkative in ("aiohttp.access", "asyncio", "git"):
        logging.getLogger(talkative).setLevel(logging.WARNING)


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
