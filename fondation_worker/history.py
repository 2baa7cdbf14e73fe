"""What became of the jobs that ran here: for the status page, and for the figures of old probes.

It is a memory aid and no truth: Convex has that. It is kept in a file that outlives the process; a
disk that refuses it, or a line that a crash has torn, costs an operator a glance and no job.
"""

import logging
import os
import stat
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from fondation_worker import durable

logger = logging.getLogger(__name__)

MOST = 1000  # attempts that are remembered
MESSAGE_LIMIT = 1000  # characters
HOUR = 3600.0  # seconds
LARGEST = 4 * 1024 * 1024  # bytes at the end of the file that are read
_READ = os.O_RDONLY
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND


class Past(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One attempt that ended here."""

    ended_at: float  # seconds since the epoch, by Convex's clock
    job_id: str
    attempt: int
    repository: str
    outcome: str  # of `metrics.FAILED_OUTCOMES` or `OTHER_OUTCOMES`
    error_class: str | None = None
    message: str = ""  # why it failed, and what to do; redacted
    seconds: float = 0.0
    dollars: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """What ended within one hour."""

    begins_at: float  # seconds since the epoch
    completed: int
    failed: int
    dollars: float


@dataclass(frozen=True, slots=True)
class Totals:
    """What ended since this process began."""

    begun: int = 0
    completed: int = 0
    failed: int = 0
    seconds: float = 0.0  # that the completed ones took


class History:
    """The *most* attempts that ended here last; in *file* too, if there is one.

    Of that the last *largest* bytes are read, and it has at most twice as many lines.
    """

    def __init__(
        self, file: Path | None = None, *, most: int = MOST, largest: int = LARGEST
    ) -> None:
        self._file = file
        self._fullest = 2 * most
        self._largest = largest
        self._past: deque[Past] = deque(maxlen=most)
        self._lines = 0  # in the file
        self.begun = 0
        self._completed = 0
        self._failed = 0
        self._seconds = 0.0

    @property
    def totals(self) -> Totals:
        """The figures of this process."""
        return Totals(self.begun, self._completed, self._failed, self._seconds)

    def load(self) -> None:
        """Remember what earlier processes have written."""
        if self._file is None:
            return
        try:
            content = _end_of(self._file, self._largest)
        except FileNotFoundError:
            return
        except OSError as error:
            words = "%s cannot be read: %s; what ran before is not shown"
            logger.warning(words, self._file, error.strerror)
            return
        lines = content.splitlines()
        is_torn = bool(lines) and not content.endswith(b"\n")
        self._lines = self._fullest if is_torn else len(lines)  # it is written anew soon
        left_out = 0
        for line in lines:
            try:
                self._past.append(msgspec.json.decode(line, type=Past))
            # Torn by a crash or a full disk, or of a later version.
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                left_out += 1
        if left_out:
            words = "%s: %d lines that cannot be read are left out"
            logger.warning(words, self._file, left_out)

    def begin(self) -> None:
        """Count an attempt that begins."""
        self.begun += 1

    def add(self, past: Past) -> None:
        """Remember an attempt that has ended."""
        self._past.append(past)
        if past.outcome == "completed":
            self._completed += 1
            self._seconds += past.seconds
        elif past.error_class:
            self._failed += 1
        if self._file:
            try:
                self._keep(self._file, past)
            except OSError as error:
                logger.warning("%s: what ran is not remembered: %s", self._file, error.strerror)
                self._lines = self._fullest  # it may end in half a line: it is written anew

    def _keep(self, file: Path, past: Past) -> None:
        if self._lines >= self._fullest:
            draft = file.with_name(f".{file.name}.draft")
            durable.remove_quietly(draft)  # of a life that died over it
            try:
                _append(draft, self._past)
                draft.replace(file)
            except OSError:
                durable.remove_quietly(draft)
                raise
            self._lines = len(self._past)
            return
        _append(file, (past,))
        self._lines += 1

    def recent(self, most: int = 20) -> tuple[Past, ...]:
        """Return the last attempts that ended, the newest first."""
        return tuple(self._past)[: -most - 1 : -1]

    def failures(self, most: int = 5) -> tuple[Past, ...]:
        """Return the last that failed, the newest first."""
        return tuple(past for past in reversed(self._past) if past.error_class)[:most]

    def hours(self, now: float, most: int = 12) -> tuple[Hour, ...]:
        """Return the last hours up to *now* (seconds since the epoch), the oldest first."""
        first = (int(now // HOUR) - most + 1) * HOUR
        return tuple(self._hour(first + n * HOUR) for n in range(most))

    def _hour(self, begins_at: float) -> Hour:
        ended = [past for past in self._past if 0 <= past.ended_at - begins_at < HOUR]
        return Hour(
            begins_at=begins_at,
            completed=sum(past.outcome == "completed" for past in ended),
            failed=sum(past.error_class is not None for past in ended),
            dollars=sum(past.dollars or 0.0 for past in ended),
        )


def _end_of(file: Path, largest: int) -> bytes:
    """Return the last *largest* bytes of *file*, in whole lines. Raises OSError."""
    with _opened(file, _READ) as found:
        cut = found.seek(0, os.SEEK_END) - largest
        found.seek(max(0, cut))
        content = found.read(largest)
    return content.partition(b"\n")[2] if cut > 0 else content


def _append(file: Path, past: Iterable[Past]) -> None:
    """Write, without waiting for the disk: a power cut may cost lines. Raises OSError."""
    with _opened(file, _APPEND) as appended:
        appended.write(b"".join(msgspec.json.encode(one) + b"\n" for one in past))


def _opened(file: Path, flags: int) -> BinaryIO:
    """Open a plain file; whatever else stands there could hold us up for ever. Raises OSError."""
    opened = os.open(file, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise OSError(0, "it is no plain file")
    return open(opened, "rb" if flags == _READ else "ab")  # noqa: PTH123 a descriptor, for its mode
