"""A job's log: what its run says, sent to Convex while it says it.

Nothing here may cost a job: lines wait in bounded memory, are sent by a task of their own, and are
given up when Convex does not want them.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol

from fondation_worker.errors import LeaseLost, Refused, Unreachable
from fondation_worker.job import Token
from fondation_worker.queue import LogLine
from fondation_worker.redact import Redactor
from fondation_worker.result import well_formed

logger = logging.getLogger(__name__)

INTERVAL = 5.0  # seconds between two calls, at least; also before one without an answer is repeated
FLUSH_LIMIT = 5.0  # seconds that the last lines may take
FLUSH_RETRY = 0.5  # seconds, at the end
LINE_LIMIT = 4000  # bytes: Convex takes 4 KiB
BATCH_LINES = 100
BATCH_BYTES = 60_000  # of text: Convex takes calls of 64 KiB
HELD_BYTES = 128 * 1024  # of the first lines that wait, and again of the last
_LINE_COST = 100  # bytes that a line takes beside its text


class Appends(Protocol):
    """What a log needs of the queue."""

    @property
    def redact(self) -> Redactor:
        """What keeps secrets out of rows."""

    def now(self) -> float:
        """Return seconds since the epoch by Convex's clock."""

    async def append_logs(self, token: Token, lines: Sequence[LogLine]) -> bool:
        """Keep *lines* once; return whether the log is full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    at: float  # milliseconds since the epoch
    level: str
    text: str

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return len(self.text.encode()) + _LINE_COST


@dataclass(slots=True)
class Waiting:
    """Lines that were said and not sent, in bounded memory: what is too much, the middle loses."""

    first: deque[_Said] = field(default_factory=deque)
    last: deque[_Said] = field(default_factory=deque)
    dropped: int = 0  # lines, between the two
    _first_bytes: int = 0
    _last_bytes: int = 0

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.first or self.dropped or self.last)

    def add(self, said: _Said) -> None:
        """Keep one line more."""
        if not self.last and not self.dropped and self._first_bytes + said.size <= HELD_BYTES:
            self.first.append(said)
            self._first_bytes += said.size
            return
        self.last.append(said)
        self._last_bytes += said.size
        while self._last_bytes > HELD_BYTES:
            self._last_bytes -= self.last.popleft().size
            self.dropped += 1

    def take(self) -> list[_Said]:
        """Return the next lines, as many as one call takes, and forget them."""
        taken: list[_Said] = []
        room = BATCH_BYTES
        while self and len(taken) < BATCH_LINES:
            said = self._next()
            room -= said.size
            if room < 0:
                break
            taken.append(said)
            self._forget()
        return taken

    def _next(self) -> _Said:
        if self.first:
            return self.first[0]
        if self.dropped:
            text = f"{self.dropped} lines were left out here: they came faster than they were sent"
            return _Said(at=self.last[0].at, level="error", text=text)
        return self.last[0]

    def _forget(self) -> None:
        if self.first:
            self._first_bytes -= self.first.popleft().size
        elif self.dropped:
            self.dropped = 0
        else:
            self._last_bytes -= self.last.popleft().size


class LiveLog:
    """Where a run says what happens. Made by `live_log`."""

    def __init__(self, queue: Appends, token: Token) -> None:
        self._queue = queue
        self._token = token
        self._waiting = Waiting()
        self._sent = 0  # the number of the last line that was numbered
        self._is_over = False  # Convex takes no more
        self._has_lines = asyncio.Event()
        self._hurry = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def say(self, level: str, text: str) -> None:
        """Add a line, `info` or `error`; a long *text* becomes several. Never waits."""
        if self._is_over:
            return
        at = self._queue.now() * 1000
        # Redacted before it is cut: no half of a secret is known at a cut.
        for piece in _pieces(well_formed(self._queue.redact(text))):
            self._waiting.add(_Said(at=at, level=level, text=piece))
        self._has_lines.set()
        self._idle.clear()

    def hurry(self) -> None:
        """Send from now on without pauses: not much more comes."""
        self._hurry.set()

    async def flush(self) -> None:
        """Send what waits, at once, and wait until it is done: a few seconds at most."""
        self.hurry()
        try:
            async with asyncio.timeout(FLUSH_LIMIT):
                await self._idle.wait()
        except TimeoutError:
            logger.warning("the end of the job's log could not be sent")

    async def keep_sending(self) -> None:
        """Send what is said, until Convex takes no more."""
        try:
            while not self._is_over:
                await self._has_lines.wait()
                await self._send(self._batch())
                if not self._waiting:
                    self._has_lines.clear()
                    self._idle.set()
                await self._pause(INTERVAL)
        except (LeaseLost, Refused) as error:
            logger.info("the job's log is not taken any more: %s", error)
        except Exception:  # a log is not worth a job
            logger.exception("a fault of this program; the job's log ends here")
        self._is_over = True
        self._waiting = Waiting()
        self._idle.set()

    def _batch(self) -> list[LogLine]:
        """Return the next lines, numbered."""
        taken = self._waiting.take()
        lines = [
            LogLine(n=self._sent + place, at=said.at, level=said.level, text=said.text)
            for place, said in enumerate(taken, start=1)
        ]
        self._sent += len(lines)
        return lines

    async def _send(self, lines: Sequence[LogLine]) -> None:
        """Send one batch until there is an answer: by their numbers, Convex keeps lines once."""
        while True:
            try:
                self._is_over = await self._queue.append_logs(self._token, lines)
            except Unreachable as error:
                logger.debug("the job's log waits: %s", error)
                await self._pause(INTERVAL, hurried=FLUSH_RETRY)
            else:
                return

    async def _pause(self, seconds: float, *, hurried: float = 0.0) -> None:
        """Wait; at the end only as long as *hurried*."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
                await asyncio.sleep(hurried)


@asynccontextmanager
async def live_log(queue: Appends, token: Token) -> AsyncIterator[LiveLog]:
    """Give the body a log; at its end the last lines are sent, which takes seconds at most.

    Not so when the body is cancelled: then the job is somebody else's, or time is short. What the
    body raises is raised as it is.
    """
    log = LiveLog(queue, token)
    failure: Exception | None = None
    async with asyncio.TaskGroup() as group:
        sender = group.create_task(log.keep_sending())
        try:
            try:
                yield log
            except Exception as error:  # noqa: BLE001 raised again, outside the group
                failure = error
            await log.flush()
        finally:
            sender.cancel()
    if failure:
        raise failure


def _pieces(text: str) -> list[str]:
    """Return *text* in pieces that each fit a line; no character is cut in two."""
    pieces: list[str] = []
    raw = text.encode()
    while len(raw) > LINE_LIMIT:
        end = raw.rfind(b"\n", LINE_LIMIT // 2, LINE_LIMIT) + 1 or LINE_LIMIT
        piece = raw[:end].decode(errors="ignore")  # without the part of a character at its end
        pieces.append(piece)
        raw = raw[len(piece.encode()) :]
    return [*pieces, raw.decode()]
