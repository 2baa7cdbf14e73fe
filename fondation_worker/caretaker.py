"""What a service manager is kept told while the worker works; without one it costs nothing.

From the event loop only: a loop that hangs feeds no watchdog, and is then killed with its stacks in
the journal. That Convex cannot be reached hangs nothing.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fondation_worker import events
from fondation_worker.slots import Ends
from fondation_worker.statusline import Situation, in_one_line
from fondation_worker.systemd import Manager

logger = logging.getLogger(__name__)

LOOK = 2.0  # seconds between two looks at the situation
EXTENSION = 15.0  # seconds that are asked for while running jobs drain, again and again
EXTEND_INTERVAL = 5.0


@asynccontextmanager
async def cared_for(
    manager: Manager,
    ends: Ends,
    *,
    look: Callable[[], Situation],
    changed: asyncio.Event,
    contact: Callable[[], Awaitable[object]],
) -> AsyncIterator[None]:
    """Keep *manager* told how things are by *look* while the body runs; at its end, that it stops.

    Ready is said once *contact* returns: Convex was reached, or that was found impossible. It looks
    at once when *changed* is set, which it clears.
    """
    tasks: tuple[asyncio.Task[None], ...] = ()
    async with asyncio.TaskGroup() as group:
        tasks = (
            group.create_task(_tell(manager, look, changed, contact)),
            group.create_task(_feed(manager)),
            group.create_task(_ask_for_time(manager, ends)),
        )
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
    manager.stops()


async def _tell(
    manager: Manager,
    look: Callable[[], Situation],
    changed: asyncio.Event,
    contact: Callable[[], Awaitable[object]],
) -> None:
    """Say that the worker is ready, then each change; and in the log whether Convex is there."""
    manager.has_status("starting: asking Convex")
    await contact()
    told, was_unreachable = "", False
    while True:
        situation = look()
        line = in_one_line(situation)
        if not told:
            manager.is_ready(line)
        elif line != told:
            manager.has_status(line)
        if situation.unreachable != was_unreachable:
            _log(found=was_unreachable)
        told, was_unreachable = line, situation.unreachable
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK):
                await changed.wait()
        changed.clear()


def _log(*, found: bool) -> None:
    if found:
        logger.info("Convex answers again", extra=events.CONVEX_FOUND.extra)
    else:
        words = "Convex unreachable, retrying; running jobs go on while their leases hold"
        logger.warning(words, extra=events.CONVEX_LOST.extra)


async def _feed(manager: Manager) -> None:
    """Feed the watchdog, twice as often as it wants."""
    while manager.watchdog:
        manager.is_alive()
        await asyncio.sleep(manager.watchdog / 2)


async def _ask_for_time(manager: Manager, ends: Ends) -> None:
    """Ask for more time while running jobs drain; the drain time bounds how long that goes on."""
    await ends.stop.wait()
    manager.stops()
    while True:
        manager.needs(EXTENSION)
        await asyncio.sleep(EXTEND_INTERVAL)
