"""Wakes the slots when there may be work, by push, poll or due time; hears of cancellations.

Push is the official `ConvexClient` in a child process (`wakeup_child.py`); without it there is
only the poll, so nothing here can lose a job. The pulse, a row that Convex writes every minute,
proves that push is alive.
"""

import asyncio
import contextlib
import json
import logging
import math
import os
import random
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec

from fondation_worker import events
from fondation_worker.clock import boottime
from fondation_worker.tidy import to_the_end

logger = logging.getLogger(__name__)

PULSE_LIMIT = 150.0  # seconds without a pulse after which push counts as down
SAFETY_POLL = 300.0  # seconds between two polls while push is up
POLL_SPREAD = 0.1  # how much longer than that it may be: workers do not ask in step
JITTER = 0.05  # seconds: several workers that are woken at once do not ask at once
EMPTY_WAIT = 0.05  # seconds at least between an empty claim and the next
RESTART_WAIT = 5.0  # seconds before a child that ended is started anew
REFUSED_WAIT = 60.0  # the same after it was refused

CHILD = Path(__file__).with_name("wakeup_child.py")


class Bell:
    """Rings for every slot that is waiting, and for those that will look later."""

    def __init__(self, poll_interval: float) -> None:
        self.poll_interval = poll_interval  # seconds; a reload may change it
        self._rung = asyncio.Condition()
        self._count = 0
        self._announced = 0  # what it was when push last announced work
        self._last_pulse = float("-inf")
        self._was_up = boottime()  # when push last proved itself, or could first have
        self._answered = float("-inf")  # when a slot was last told that there is nothing
        self._missed = False  # a poll found work that push had not announced
        self._hears_cancellations = False

    @property
    def push_is_up(self) -> bool:
        """Whether push has proved itself lately."""
        return not self._missed and boottime() - self._last_pulse < PULSE_LIMIT

    @property
    def down_for(self) -> float:
        """For how many seconds push has not proved itself; 0: it is up."""
        return 0.0 if self.push_is_up else boottime() - self._was_up

    @property
    def hears_cancellations(self) -> bool:
        """Whether push would tell of a cancellation."""
        return self._hears_cancellations and self.push_is_up

    def hear_cancellations(self, *, heard: bool) -> None:
        """Take note whether Convex tells of cancellations; older functions do not."""
        self._hears_cancellations = heard

    @property
    def count(self) -> int:
        """How often it rang: read it before a claim, pass it to `wait` after an empty one."""
        return self._count

    async def ring(self) -> None:
        """Wake every slot that waits."""
        async with self._rung:
            self._count += 1
            self._rung.notify_all()

    def pulse(self) -> None:
        """Take note that push is alive."""
        self._last_pulse = boottime()
        if not self._missed:
            self._was_up = self._last_pulse

    async def announce(self) -> None:
        """Take note that push announced work, and wake every slot."""
        self._missed = False
        self._was_up = boottime()
        self._announced = self._count + 1
        await self.ring()

    async def lost(self) -> None:
        """Take note that push is down, and let every slot look once, and poll from then on."""
        self._last_pulse = float("-inf")
        self._hears_cancellations = False
        await self.ring()

    def missed(self) -> None:
        """Take note that a poll found work that push had not announced."""
        self._missed = True

    async def wait(self, *, heard: int, next_in: float | None) -> str:
        """Wait until there may be work again; return what woke: `push`, `due`, `poll` or `other`.

        `other` is a slot that found work, the loss of push, or new settings. *heard* is `count`
        from before the empty claim, *next_in* the seconds until the next job's time, as the claim
        answered them. Slots share the poll: what one was answered, another need not ask again.
        """
        self._answered = boottime()
        due = self._answered + max(next_in, EMPTY_WAIT) if next_in is not None else math.inf
        spread = random.uniform(1, 1 + POLL_SPREAD)  # noqa: S311 jitter, not a secret
        while (left := min(due, self._next_poll(spread)) - boottime()) > 0:
            with contextlib.suppress(TimeoutError):  # another slot may have asked meanwhile
                async with asyncio.timeout(left), self._rung:
                    await self._rung.wait_for(lambda: self._count > heard)
                await asyncio.sleep(random.uniform(0, JITTER))  # noqa: S311
                return "push" if self._announced > heard else "other"
        return "due" if due <= boottime() else "poll"

    def _next_poll(self, spread: float) -> float:
        """Return when to ask again whatever is heard, in seconds on `boottime`."""
        interval = self.poll_interval
        if self.push_is_up:
            interval = max(interval, SAFETY_POLL)
        return self._answered + interval * spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """What to listen to."""

    url: str
    functions: str
    key: str = field(repr=False)
    instance: str  # whose cancellations


class _Canceled(msgspec.Struct):
    """One attempt that was cancelled."""

    jobId: str  # noqa: N815 the protocol's name
    attempt: int


class _Event(msgspec.Struct):
    """One line of the child."""

    event: str
    available: bool = False
    reason: str = ""
    jobs: list[_Canceled] = []


Canceled = Callable[[Iterable[tuple[str, int]]], None]
"""Takes every attempt of this instance that was cancelled lately: id of the job, attempt."""


class Listener:
    """Keeps a child listening; rings *bell* for what it hears, and tells *canceled*."""

    def __init__(self, subscription: Subscription, bell: Bell, canceled: Canceled) -> None:
        self._subscription = subscription
        self._bell = bell
        self._canceled = canceled
        self._scope: asyncio.Timeout | None = None
        self._is_retired = False

    def renew(self, subscription: Subscription) -> None:
        """Listen with *subscription* from now on."""
        self._subscription = subscription
        if self._scope:
            self._scope.reschedule(asyncio.get_running_loop().time())

    def retire(self) -> None:
        """Start no further child: what is on disk may be of another version than this process."""
        self._is_retired = True

    async def run(self) -> None:
        """Listen, for ever or until retired."""
        while not self._is_retired:
            try:
                async with asyncio.timeout(None) as self._scope:
                    await self._once()
            except TimeoutError:
                logger.info("push: listening anew, with the new key")
            finally:
                self._scope = None

    async def _once(self) -> None:
        wait = RESTART_WAIT
        try:
            refused = await self._hear()
        except (OSError, ValueError, msgspec.MsgspecError) as error:  # a broken line, no process
            logger.warning("push: %s", error)
        else:
            wait = REFUSED_WAIT if refused else RESTART_WAIT
        words = "push is down; polling, and trying again in %g s"
        logger.warning(words, wait, extra=events.PUSH_LOST.extra)
        await self._bell.lost()
        await asyncio.sleep(wait)

    async def _hear(self) -> bool:
        """Pass on what one child hears, until it ends; return whether it was refused."""
        async with _child(self._subscription) as lines:
            async for line in _while_alive(lines, self._bell):
                event = msgspec.json.decode(line, type=_Event)
                match event.event:
                    case "pulse" if event.available:
                        self._bell.pulse()
                    case "work" if event.available:
                        await self._bell.announce()
                    case "canceled":
                        self._bell.hear_cancellations(heard=True)
                        self._canceled((job.jobId, job.attempt) for job in event.jobs)
                    case "deaf":
                        logger.warning("push does not tell of cancellations: %s", event.reason)
                        self._bell.hear_cancellations(heard=False)
                    case "ended":
                        logger.warning("push: the client ended: %s", event.reason)
                    case "refused":
                        logger.error("push: Convex refused the subscription: %s", event.reason)
                        return True
        return False


async def _while_alive(lines: asyncio.StreamReader, bell: Bell) -> AsyncIterator[bytes]:
    """Give the child's lines until it ends; tell *bell* when they stop coming."""
    while True:
        try:
            async with asyncio.timeout(PULSE_LIMIT):
                line = await lines.readline()
        except TimeoutError:
            logger.warning("push is silent; polling until it is heard again")
            await bell.lost()
            continue
        if not line:
            return
        yield line


@contextlib.asynccontextmanager
async def _child(subscription: Subscription) -> AsyncIterator[asyncio.StreamReader]:
    """Run the listening child; give the lines it writes. It is killed on leaving."""
    ours, theirs = os.pipe()
    with open(ours, "rb") as reading, open(theirs, "wb") as writing:  # noqa: ASYNC230, PTH123 pipes
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", str(CHILD), str(theirs), str(os.getpid())),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            pass_fds=(theirs,),
            start_new_session=True,
        )
        try:
            writing.close()
            lines = asyncio.StreamReader()
            pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(lines), reading
            )
            with contextlib.closing(pipe):
                if process.stdin:
                    process.stdin.write(_orders(subscription))
                yield lines
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await to_the_end(process.wait())


def _orders(subscription: Subscription) -> bytes:
    """Return the line that the child is given."""
    return json.dumps(asdict(subscription)).encode() + b"\n"
