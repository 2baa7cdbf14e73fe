"""When a run stands still."""

from pathlib import Path

import pytest

from fondation_worker.result import Usage
from fondation_worker.stall import Limits, Watch
from fondation_worker.telling import for_log
from fondation_worker.transcript import Finished, LimitReached, Started, ToolCall, ToolDone

LIMITS = Limits(stall=600, tool=1800)
FINISHED = Finished(
    subtype="success",
    is_error=False,
    text="x",
    status=None,
    usage=Usage(
        model=None,
        cost_usd=None,
        turns=None,
        duration_ms=None,
        input_tokens=None,
        output_tokens=None,
        cache_read_tokens=None,
        cache_creation_tokens=None,
    ),
)


def call(name: str = "Grep") -> ToolCall:
    """Return a call of the tool *name*, with the name as its id."""
    return ToolCall(id=name, name=name, subject="x")


def test_silence_is_allowed_for_a_time() -> None:
    """And any output at all begins it anew."""
    watch = Watch(limits=LIMITS, heard=0)
    assert watch.left(100) == 500
    watch.hear(100)
    assert watch.left(100) == 600
    assert "no sign of life for 600 s (STALL_TIME)" in str(watch.verdict(700))


def test_a_tool_has_a_time_of_its_own() -> None:
    """Silence means nothing while it works, and noise of others does not help it."""
    watch = Watch(limits=LIMITS, heard=0)
    watch.take(call(), 0)
    watch.take(call("Read"), 1000)
    watch.hear(1700)
    assert watch.left(1700) == 100
    assert "Grep was not done after 1800 s (TOOL_TIME)" in str(watch.verdict(1800))
    watch.take(ToolDone(id="Grep"), 1700)
    assert watch.left(1700) == 1100
    watch.take(ToolDone(id="Read"), 1700)
    watch.take(ToolDone(id="never called"), 1700)
    assert watch.left(1700) == 600


def test_a_result_is_followed_by_an_end() -> None:
    """A run that does not end has succeeded all the same, whatever still runs of it."""
    watch = Watch(limits=LIMITS, heard=0)
    watch.take(call(), 0)
    watch.take(FINISHED, 10)
    watch.hear(10)
    assert watch.left(10) == 15
    assert watch.verdict(25) is None
    watch.take(Started(model="x", version="1"), 20)
    assert watch.left(20) > 15


@pytest.mark.parametrize(
    ("moment", "words"), [(None, "used up"), (1.8e9, "2027-01-15 08:00 UTC"), (1e300, "used up")]
)
def test_the_end_of_a_limit_is_told_in_words(moment: float | None, words: str) -> None:
    """A wild answer costs no run."""
    line = for_log(LimitReached(resets_at=moment), Path("/"))
    assert line is not None
    assert line[1].endswith(words)
