"""Whether the event loop keeps time: it carries the heartbeats of every job.

On the loop's own clock, which stands while a host sleeps: that is no fault of the loop.
"""

import asyncio
from collections import deque
from collections.abc import Callable

TICK = 1.0  # seconds
MEMORY = 300.0  # seconds for which a late tick is remembered


class Ticks:
    """How late the last ticks came."""

    def __init__(self) -> None:
        self._late: deque[tuple[float, float]] = deque()  # when, and how late; ever less late

    def note(self, now: float, late: float) -> None:
        """Take note of a tick that came *late* seconds late, at *now* on the loop's clock."""
        while self._late and self._late[-1][1] <= late:
            self._late.pop()
        self._late.append((now, late))

    def worst(self, now: float | None = None) -> float:
        """Return how late the worst tick of the last `MEMORY` seconds came, in seconds.

        *now* is on the loop's clock.
        """
        now = asyncio.get_running_loop().time() if now is None else now
        while self._late and now - self._late[0][0] > MEMORY:
            self._late.popleft()
        return self._late[0][1] if self._late else 0.0

    async def keep(self, observe: Callable[[float], None]) -> None:
        """Tick for ever, and tell *observe* how late each was."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due += TICK
            await asyncio.sleep(due - loop.time())
            late = max(0.0, loop.time() - due)
            observe(late)
            self.note(loop.time(), late)
            due = max(due, loop.time() - TICK)
