"""How late the event loop was, as long as that says something."""

import asyncio
import time

from hypothesis import given, strategies as st

from fondation_worker.ticks import MEMORY, Ticks
from tests.processes import until


@given(st.lists(st.tuples(st.floats(0, 200), st.floats(0, 50)), max_size=30))
def test_the_worst_of_the_last_minutes_is_told(steps: list[tuple[float, float]]) -> None:
    """Exactly, and without keeping every tick."""
    ticks, now, seen = Ticks(), 0.0, []
    for step, late in steps:
        now += step
        ticks.note(now, late)
        seen.append((now, late))
        assert ticks.worst(now) == max(late for at, late in seen if now - at <= MEMORY)
    assert ticks.worst(now + MEMORY + 1) == 0.0


async def test_a_loop_that_stands_still_is_noticed() -> None:
    """By the tick that came late, once it has come."""
    ticks, seen = Ticks(), list[float]()
    task = asyncio.create_task(ticks.keep(seen.append))
    await until(lambda: seen)
    time.sleep(1.5)  # noqa: ASYNC251 that is the fault
    await until(lambda: ticks.worst() > 0.4)
    task.cancel()
    assert max(seen) == ticks.worst()
