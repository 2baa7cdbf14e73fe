"""Log lines in systemd's journal, with fields to find them by.

The `JournalHandler` of systemd-python is not used, only its `send`: that handler adds a record's
arguments and traceback as fields of their own, which no redactor has seen.
"""

import logging
import os
from collections.abc import Callable, Mapping

try:
    from systemd import journal  # type: ignore[attr-defined]  # the folder systemd/ hides it
except ImportError:  # no systemd here: an image does without
    journal = None

IDENTIFIER = "fondation-worker"  # SYSLOG_IDENTIFIER, as the unit's
_PRIORITIES = (  # of syslog(3)
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
)
_DEBUG = 7

Fields = Callable[[logging.LogRecord], Mapping[str, str]]
"""What a record is to be found by: names of journal fields, and their texts."""


def is_standard_error(environ: Mapping[str, str]) -> bool:
    """Whether standard error goes to the journal, and it can be written to (systemd.exec(5))."""
    if journal is None:
        return False
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(2)
    except OSError:
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))


class JournalLines(logging.Handler):
    """Writes to the journal; *fields* gives what each record is found by."""

    def __init__(self, fields: Fields) -> None:
        super().__init__()
        self._fields = fields

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record; where the journal cannot be had, to standard error."""
        text = self.format(record)
        try:
            journal.send(
                _sound(text),
                PRIORITY=str(priority(record.levelno)),
                SYSLOG_IDENTIFIER=IDENTIFIER,
                LOGGER=record.name,
                CODE_FILE=record.pathname,
                CODE_LINE=record.lineno,
                CODE_FUNC=record.funcName,
                **{name: _sound(value) for name, value in self._fields(record).items()},
            )
        except OSError:
            os.write(2, f"{text}\n".encode(errors="replace"))


def _sound(text: str) -> str:
    """Return *text* without halves of characters: the journal takes none, and no line may fail."""
    return text.encode(errors="replace").decode()


def priority(level: int) -> int:
    """Return the priority of syslog(3) for a level of Python's logging."""
    return next((found for least, found in _PRIORITIES if level >= least), _DEBUG)
