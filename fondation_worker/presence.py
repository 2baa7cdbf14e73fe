"""Presence: tells Convex that this worker is there and in what state, never in the way of work."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fondation_worker.clock import boottime
from fondation_worker.errors import LeaseLost, Refused, Unreachable
from fondation_worker.tidy import to_the_end

logger = logging.getLogger(__name__)

LOOK = 5.0  # seconds between two looks at the state, and so between two reports at least
NOT_LATER = 300.0  # seconds after which the same state is told again
CALL_LIMIT = 10.0  # seconds
LAST_CALL_LIMIT = 2.0  # seconds that the last report may hold up the end


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What operators are told of this worker."""

    slots: int
    busy: int
    state: str  # words
    key: str  # stays the same while figures in the words change

    def differs(self, other: "Standing | None") -> bool:
        """Whether there is something to tell after *other* was told."""
        return other is None or (self.slots, self.busy, self.key) != (
            other.slots,
            other.busy,
            other.key,
        )


Tell = Callable[[Standing], Awaitable[None]]
"""Reports once. Raises Refused and Unreachable."""


@asynccontextmanager
async def present(tell: Tell, look: Callable[[], Standing]) -> AsyncIterator[None]:
    """Report while the body runs, and at its end, once, that the worker has stopped."""
    reporter = _Reporter(tell)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(reporter.keep(look))
        try:
            yield
        finally:
            task.cancel()
            last = look()
            stopped = Standing(slots=last.slots, busy=0, state="stopped", key="stopped")
            await to_the_end(reporter.tell(stopped, limit=LAST_CALL_LIMIT))


class _Reporter:
    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._has_failed = False

    async def keep(self, look: Callable[[], Standing]) -> None:
        """Report the state when it changes, and now and then."""
        told: Standing | None = None
        when = float("-inf")
        while True:
            standing, age = look(), boottime() - when
            if age >= NOT_LATER or standing.differs(told):
                await self.tell(standing, limit=CALL_LIMIT)
                told, when = standing, boottime()
            await asyncio.sleep(LOOK)

    async def tell(self, standing: Standing, *, limit: float) -> None:
        """Report once; a failure harms nobody, and is a warning the first time only."""
        try:
            async with asyncio.timeout(limit):
                await self._tell(standing)
            self._has_failed = False
        except (TimeoutError, Unreachable, Refused, LeaseLost) as error:
            level = logging.DEBUG if self._has_failed else logging.WARNING
            logger.log(level, "this worker's state was not told: %s", str(error) or "no answer")
            self._has_failed = True
