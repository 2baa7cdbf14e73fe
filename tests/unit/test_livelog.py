"""The log of a job: numbered, in batches, bounded, and never in the way."""

import asyncio
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, strategies as st

from fondation_worker import livelog
from fondation_worker.errors import LeaseLost, Refused, Unreachable
from fondation_worker.job import Token
from fondation_worker.livelog import BATCH_BYTES, BATCH_LINES, LINE_LIMIT, LiveLog, live_log
from fondation_worker.queue import LogLine
from fondation_worker.redact import Redactor

TOKEN = Token(job_id="j", lease_token="t", attempt=1)
SECRET = "a-secret-of-some-length"


class Kept:
    """What takes the lines: every call is kept, and *answers* says what becomes of each."""

    def __init__(self, *answers: Exception | bool) -> None:
        self.calls: list[list[LogLine]] = []
        self.redact = Redactor([SECRET])
        self._answers = list(answers)
        self.hangs = False

    def now(self) -> float:
        """Return a time."""
        return 1000.0

    async def append_logs(self, token: Token, lines: Sequence[LogLine]) -> bool:
        """Keep *lines*."""
        assert token == TOKEN
        self.calls.append(list(lines))
        if self.hangs:
            await asyncio.sleep(3600)
        answer = self._answers.pop(0) if self._answers else False
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def lines(self) -> list[LogLine]:
        """All lines of all calls."""
        return [line for call in self.calls for line in call]


async def test_everything_that_was_said_is_sent_in_order() -> None:
    """In calls that Convex takes, with numbers from 1."""
    kept = Kept()
    async with live_log(kept, TOKEN) as log:
        for number in range(250):
            log.say("info", f"line {number}")
    assert [line.text for line in kept.lines] == [f"line {number}" for number in range(250)]
    assert [line.n for line in kept.lines] == list(range(1, 251))
    assert max(map(len, kept.calls)) <= BATCH_LINES
    assert {line.at for line in kept.lines} == {1_000_000}


async def test_a_batch_without_an_answer_is_sent_again_with_the_same_numbers() -> None:
    """It may have arrived."""
    kept = Kept(Unreachable("nobody"), Unreachable("nobody"))
    async with live_log(kept, TOKEN) as log:
        log.say("info", "first")
        await log.flush()
        log.say("error", "second")
    assert [[line.n for line in call] for call in kept.calls] == [[1], [1], [1], [2]]
    assert kept.lines[-1].level == "error"


async def test_calls_are_spaced() -> None:
    """Convex is asked once in some seconds, however much is said."""
    kept = Kept()
    async with live_log(kept, TOKEN) as log:
        for number in range(20):
            log.say("info", f"line {number}")
            await asyncio.sleep(0.01)
        assert len(kept.calls) <= 1
    assert len(kept.calls) <= 2
    assert len(kept.lines) == 20


@pytest.mark.parametrize(
    "answer", [True, LeaseLost("settled"), Refused("invalid", "lines"), RuntimeError("a bug")]
)
async def test_what_is_not_wanted_is_not_sent_again(answer: Exception | bool) -> None:  # noqa: FBT001
    """A full log, a job that is not ours any more, a fault of our own: the job goes on."""
    kept = Kept(answer)
    async with live_log(kept, TOKEN) as log:
        log.say("info", "first")
        await log.flush()
        log.say("info", "second")
    assert len(kept.calls) == 1


async def test_an_outage_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last lines get seconds, and are lost then."""
    monkeypatch.setattr(livelog, "FLUSH_LIMIT", 0.2)
    kept = Kept()
    kept.hangs = True
    async with asyncio.timeout(20), live_log(kept, TOKEN) as log:
        log.say("info", "first")
    assert len(kept.calls) == 1


async def test_a_cancellation_waits_for_nothing() -> None:
    """A lost lease or the end of the drain: a log is not worth a second."""
    kept = Kept()
    kept.hangs = True
    inside = asyncio.Event()

    async def work() -> None:
        async with live_log(kept, TOKEN) as log:
            log.say("info", "first")
            inside.set()
            await asyncio.sleep(3600)

    async with asyncio.timeout(4), asyncio.TaskGroup() as group:  # less than the flush may take
        task = group.create_task(work())
        await inside.wait()
        task.cancel()
    assert task.cancelled()


async def test_an_error_of_the_body_arrives_as_it_is_after_the_last_lines() -> None:
    """Whoever catches it need not know of a log."""
    kept = Kept()

    async def work() -> None:
        async with live_log(kept, TOKEN) as log:
            log.say("error", "why")
            raise KeyError

    with pytest.raises(KeyError):
        await work()
    assert [line.text for line in kept.lines] == ["why"]


async def test_what_comes_too_fast_loses_its_middle() -> None:
    """Memory is bounded; the beginning and the end tell most, and a line says what is missing."""
    log = LiveLog(kept := Kept(), TOKEN)
    for number in range(20_000):
        log.say("info", f"line {number} " + "x" * 40)
    sender = asyncio.create_task(log.keep_sending())
    await log.flush()
    sender.cancel()
    texts = [line.text for line in kept.lines]
    assert texts[0].startswith("line 0 ")
    assert texts[-1].startswith("line 19999 ")
    (gap,) = (text for text in texts if "left out" in text)
    assert int(gap.split()[0]) == 20_000 - (len(texts) - 1)
    assert sum(len(text) for text in texts) < 300_000
    assert [line.n for line in kept.lines] == list(range(1, len(texts) + 1))


@given(st.text(max_size=9000), st.integers(0, 5000) | st.integers(LINE_LIMIT - 25, LINE_LIMIT))
def test_lines_fit_and_hold_no_part_of_a_secret(text: str, before: int) -> None:
    """A long text is cut, but a secret in it is replaced before."""

    async def lines() -> list[LogLine]:
        kept = Kept()
        async with live_log(kept, TOKEN) as log:
            log.say("info", "x" * before + SECRET + text)
            log.say("info", "\udc80")
        assert all(sum(len(s.text.encode()) for s in call) <= BATCH_BYTES for call in kept.calls)
        return kept.lines

    told = asyncio.run(lines())
    assert all(len(line.text.encode()) <= LINE_LIMIT for line in told)
    whole = "".join(line.text for line in told[:-1])
    assert whole == Redactor([SECRET])("x" * before + SECRET + text)


def test_a_long_text_is_cut_in_time() -> None:
    """It may be as long as memory allows."""
    log = LiveLog(Kept(), TOKEN)
    spent = time.process_time()
    log.say("info", "ä" * 500_000)
    assert time.process_time() - spent < 10
