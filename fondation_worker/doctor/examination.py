"""Runs checks beside each other; none can hold up, or bring down, the rest."""

import asyncio
import os
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from fondation_worker.doctor.findings import Finding, error

LIMIT = 30.0  # seconds that a check may take

_Seen = TypeVar("_Seen")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Something to look at, and for how long at most."""

    name: str
    look: Callable[[], Awaitable[Sequence[Finding]]]
    limit: float = LIMIT  # seconds


async def examine(checks: Iterable[Check]) -> list[Finding]:
    """Return what all *checks* find, in their order."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_findings_of(check)) for check in checks]
    return [finding for task in tasks for finding in task.result()]


async def in_a_thread(look: Callable[[], _Seen]) -> _Seen:
    """Return what *look* does, which may block for long: nobody waits for it after a cancel.

    A network file system that is gone holds a call for minutes, and asyncio's own threads would
    hold up the end of the program for as long.
    """
    loop = asyncio.get_running_loop()
    seen: asyncio.Future[_Seen] = loop.create_future()

    def settle(settle_it: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(lambda: None if seen.done() else settle_it())

    def work() -> None:
        try:
            result = look()
        except Exception as failure:  # noqa: BLE001 the caller gets it
            settle(lambda failure=failure: seen.set_exception(failure))  # type: ignore[misc]
        else:
            settle(lambda: seen.set_result(result))

    threading.Thread(target=work, daemon=True).start()
    return await seen


async def _findings_of(check: Check) -> Sequence[Finding]:
    scope = asyncio.timeout(check.limit)
    try:
        async with scope:
            return await check.look()
    except TimeoutError as late:
        if not scope.expired():
            return [_crash(check.name, late)]
        words = f"there was no end to it within {check.limit:g} s"
        return [error(check.name, words, "look at what it is about; a disk or a network may hang")]
    except Exception as bug:  # noqa: BLE001 the other checks have something to say
        return [_crash(check.name, bug)]


def _crash(name: str, bug: BaseException) -> Finding:
    frames = traceback.extract_tb(bug.__traceback__)
    where = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""  # noqa: PTH119
    words = f"this check failed itself: {type(bug).__name__}: {bug}{where}"
    return error(name, words, "a fault of this program: please report it")
