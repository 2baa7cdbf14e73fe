"""Work happens only while its lease holds.

The lease is a deadline on `boottime`. Heartbeats move it; a tick compares with it once a second. A
heartbeat that fails, hangs or is refused needs no code of its own: the deadline passes, and the
work is cancelled before Convex gives the job to somebody else.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from fondation_worker.clock import boottime
from fondation_worker.errors import LeaseLost, Refused, Unreachable
from fondation_worker.queue import Report

logger = logging.getLogger(__name__)

Renew = Callable[[int, Report], Awaitable[float]]
"""Sends heartbeat n with a report; returns the new deadline. Raises LeaseLost, Unreachable."""

Renewed = Callable[[str, float | None], None]
"""Takes `ok` or `failed`, and for how many seconds the work could still have gone on.

None where it was not, and for the first renewal: the lease that a claim gives is short.
"""

TICK = 1.0  # seconds between two looks at the deadline
REPORT_INTERVAL = 2.0  # seconds: a change of progress is told no more often
LONGEST_MARGIN = 5.0  # seconds before the lease's end at which the work is cancelled
RETRY_INTERVAL = 2.0  # seconds before a heartbeat without an answer is sent again


class Lease:
    """What the work sees of its lease: a place to say how far it is."""

    def __init__(self, deadline: float, renew: Renew, renewed: Renewed) -> None:
        self.deadline = deadline  # seconds on `boottime`
        self._renew = renew
        self.renewed = renewed
        self._beat = 0
        self._is_renewed = False
        self._report = Report()
        self.changed = asyncio.Event()
        self._is_urgent = asyncio.Event()
        self.cancels = True
        self._loss: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def told(self) -> Report:
        """How far the work has said it is."""
        return self._report

    def report(self, *, status: str, progress: str, step: int) -> None:
        """Say how far the work is; told to Convex with the next heartbeat, soon."""
        report = Report(status=status, progress=progress, step=step)
        if report != self._report:
            self._report = report
            self.changed.set()

    def hurry(self) -> None:
        """Tell Convex what was reported at once, not with the next heartbeat."""
        self._is_urgent.set()
        self.changed.set()

    def lose(self, reason: str) -> None:
        """End the body at once with LeaseLost(*reason*), unless the work is done."""
        if not self._loss.done():
            self._loss.set_exception(LeaseLost(reason))
            self._loss.exception()  # nobody may be waiting for it any more

    async def lost(self) -> None:
        """Wait for `lose`, and raise what it says."""
        await asyncio.shield(self._loss)

    def work_is_done(self) -> None:
        """From now on nothing cancels the body: a result is offered until it is taken."""
        self.cancels = False

    async def beat(self, margin: float) -> None:
        """Renew once; the deadline moves to *margin* seconds before the lease's end."""
        self._beat += 1
        self.changed.clear()
        self._is_urgent.clear()
        until = await self._renew(self._beat, self._report)
        slack = self.deadline - boottime() if self._is_renewed else None
        self._is_renewed, self.deadline = True, until - margin
        self.renewed("ok", slack)

    async def keep(self, interval: Callable[[], float], margin: float) -> None:
        """Renew for ever, every *interval* seconds, and soon after each change of progress."""
        retry = float("inf")
        while True:
            await self._until_due(interval, retry)
            try:
                async with asyncio.timeout(interval()):  # a call that hangs is one lost renewal
                    await self.beat(margin)
                retry = float("inf")
            except (TimeoutError, Unreachable, Refused) as error:  # the deadline decides
                logger.warning("heartbeat %d: %s", self._beat, str(error) or "no answer")
                self.renewed("failed", None)
                retry = RETRY_INTERVAL

    async def _until_due(self, interval: Callable[[], float], retry: float) -> None:
        """Wait for the next renewal's time, which *interval* may move, or for news to tell."""
        begun = boottime()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(REPORT_INTERVAL, interval(), retry)):
                await self._is_urgent.wait()
                return
        while (left := begun + min(interval(), retry) - boottime()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, REPORT_INTERVAL)):
                    await self.changed.wait()
                    return


@contextlib.asynccontextmanager
async def held(
    deadline: float,
    renew: Renew,
    *,
    interval: Callable[[], float],
    lease_time: float,
    renewed: Renewed = lambda *_: None,
) -> AsyncIterator[Lease]:
    """Run the body while the lease that ends at *deadline* holds; renew it every *interval* s.

    The body starts after the first renewal succeeded. It is cancelled a tenth of the lease, at most
    5 s, before the lease ends, so that the run is dead when it does; then, and when Convex says so,
    LeaseLost is raised once the body has tidied up. An exception of the body itself arrives wrapped
    in an ExceptionGroup: turn what is expected into values inside.
    """
    margin = min(LONGEST_MARGIN, lease_time / 10)
    lease = Lease(deadline - margin, renew, renewed)
    await _first_renewal(lease, margin)
    loss: LeaseLost | None = None
    left = False  # the body is over, however it ended: there is nothing to cancel any more

    async def watch(scope: asyncio.Timeout) -> None:
        nonlocal loss
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(lease.keep(interval, margin))
                tasks.create_task(_tick(lease))
                tasks.create_task(lease.lost())
        except* LeaseLost as lost:
            if lease.cancels and not left:
                loss = next(error for error in lost.exceptions if isinstance(error, LeaseLost))
                scope.reschedule(asyncio.get_running_loop().time())

    async with asyncio.TaskGroup() as tasks:
        scope = asyncio.timeout(None)
        watcher = tasks.create_task(watch(scope))
        try:
            async with scope:
                yield lease
        except TimeoutError:
            if loss is None:
                raise
        finally:
            left = True
            watcher.cancel()
    if loss is not None:
        raise loss


async def _first_renewal(lease: Lease, margin: float) -> None:
    """Renew until it succeeds; raise LeaseLost when the short first lease ends before."""
    while True:
        left = lease.deadline - boottime()
        if left <= 0:
            raise LeaseLost("expired")
        try:
            async with asyncio.timeout(left):
                return await lease.beat(margin)
        except TimeoutError:
            lease.renewed("failed", None)
            continue
        except Unreachable as error:
            lease.renewed("failed", None)
            logger.warning("first heartbeat: %s", error)
        await asyncio.sleep(min(0.5, left))


async def _tick(lease: Lease) -> None:
    """Raise LeaseLost when the deadline has passed, wherever the heartbeats are."""
    while (left := lease.deadline - boottime()) > 0:
        await asyncio.sleep(min(TICK, left))
    raise LeaseLost("expired")
