"""Work under a lease: it starts after the first renewal and is dead before the lease ends."""

import asyncio
import contextlib

import pytest

from fondation_worker.clock import boottime
from fondation_worker.errors import LeaseLost, Refused, Unreachable
from fondation_worker.lease import Lease, Renew, held
from fondation_worker.queue import Report
from tests.processes import until

LEASE_TIME = 1.0  # seconds; its margin is a tenth


def renewing(seconds: float = LEASE_TIME) -> tuple[Renew, list[tuple[int, Report]]]:
    """Return a renewal that always succeeds, and the list of those it has seen."""
    seen: list[tuple[int, Report]] = []

    async def renew(beat: int, report: Report) -> float:
        seen.append((beat, report))
        return boottime() + seconds

    return renew, seen


def failing(error: Exception, *, after: int = 1) -> Renew:
    """Return a renewal that succeeds *after* times, then raises *error* for ever."""

    async def renew(beat: int, _: Report) -> float:
        if beat > after:
            raise error
        return boottime() + LEASE_TIME

    return renew


async def work_until_cancelled(renew: Renew, *, interval: float = 0.2) -> float:
    """Work under a lease that is lost; return for how many seconds the work ran."""
    begun = boottime()
    ended = begun
    with pytest.raises(LeaseLost):  # noqa: PT012 the block is the work
        async with held(
            begun + LEASE_TIME, renew, interval=lambda: interval, lease_time=LEASE_TIME
        ):
            try:
                await asyncio.sleep(30)
            finally:
                ended = boottime()
    return ended - begun


async def test_work_starts_after_the_first_renewal_succeeded() -> None:
    """A claim whose answer came late must not start a run that somebody else has."""
    answered = asyncio.Event()

    async def renew(beat: int, _: Report) -> float:
        if beat < 3:
            raise Unreachable("not yet")
        answered.set()
        return boottime() + 30

    async with held(boottime() + 30, renew, interval=lambda: 10, lease_time=30):
        assert answered.is_set()


@pytest.mark.parametrize("error", [LeaseLost("superseded"), Refused("unauthorized", "no")])
async def test_a_refused_first_renewal_starts_nothing(error: Exception) -> None:
    """The body is not entered."""
    entered = False
    with pytest.raises(type(error)):
        async with held(
            boottime() + 30, failing(error, after=0), interval=lambda: 1, lease_time=30
        ):
            entered = True
    assert not entered


async def test_a_first_renewal_that_never_comes_ends_with_the_first_lease() -> None:
    """It is only 30 s long, whatever LEASE_TIME is."""

    async def never(_: int, __: Report) -> float:
        await asyncio.sleep(3600)
        return 0.0

    begun = boottime()
    with pytest.raises(LeaseLost):
        async with held(begun + 0.5, never, interval=lambda: 1, lease_time=1):
            pass
    assert boottime() - begun < 0.5


async def test_renewals_keep_the_work_alive() -> None:
    """For longer than one lease."""
    renew, seen = renewing()
    async with held(boottime() + LEASE_TIME, renew, interval=lambda: 0.2, lease_time=LEASE_TIME):
        await asyncio.sleep(2 * LEASE_TIME)
    assert len(seen) >= 5
    assert [beat for beat, _ in seen] == list(range(1, len(seen) + 1))


@pytest.mark.parametrize(
    "error", [Unreachable("no answer"), Refused("unauthorized", "the key went")]
)
async def test_failing_renewals_end_the_work_before_the_lease_ends(error: Exception) -> None:
    """A tenth of the lease before: then the run is dead when another worker may start."""
    assert await work_until_cancelled(failing(error)) < LEASE_TIME


async def test_a_hung_renewal_ends_the_work_when_the_lease_does() -> None:
    """Without this, a stuck connection would let two workers save the same job."""

    async def hang(beat: int, _: Report) -> float:
        if beat > 1:
            await asyncio.sleep(3600)
        return boottime() + LEASE_TIME

    assert await work_until_cancelled(hang) < LEASE_TIME


async def test_a_lost_lease_ends_the_work_at_the_next_renewal() -> None:
    """Canceled, or somebody else has it: no need to wait for the deadline."""
    assert await work_until_cancelled(failing(LeaseLost("canceled"))) < LEASE_TIME / 2


async def test_finished_work_outlives_the_lease() -> None:
    """A result is offered until Convex takes or refuses it."""
    async with held(
        boottime() + LEASE_TIME,
        failing(LeaseLost("expired")),
        interval=lambda: 0.1,
        lease_time=LEASE_TIME,
    ) as lease:
        lease.work_is_done()
        await asyncio.sleep(1.5 * LEASE_TIME)


async def test_a_cancellation_from_outside_is_passed_on() -> None:
    """Shutting down is no lost lease."""
    renew, _ = renewing(30)
    tidied = asyncio.Event()

    async def work() -> None:
        async with held(boottime() + 30, renew, interval=lambda: 10, lease_time=30):
            try:
                await asyncio.sleep(30)
            finally:
                tidied.set()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(work())
        await asyncio.sleep(0.1)
        task.cancel()
    assert task.cancelled()
    assert tidied.is_set()


async def test_progress_is_told_soon_and_not_too_often() -> None:
    """At most one report in two seconds; the newest rules."""
    renew, seen = renewing(60)
    begun = boottime()
    async with held(begun + 60, renew, interval=lambda: 20, lease_time=60) as lease:
        while boottime() - begun < 4.5:
            lease.report(status="analyzing", progress=f"{boottime()}", step=2)
            await asyncio.sleep(0.01)
    assert len(seen) == 3  # the first renewal, and one after every two seconds


async def test_the_same_report_twice_is_told_once() -> None:
    """Nothing changed, so nothing is said before the next renewal is due."""
    lease = Lease(boottime() + 60, renewing()[0], lambda *_: None)
    lease.report(status="cloning", progress="starting", step=1)
    assert not lease.changed.is_set()


@pytest.mark.parametrize("is_done", [False, True])
async def test_a_lost_lease_ends_the_work_at_once_unless_it_is_done(is_done: bool) -> None:  # noqa: FBT001 a case
    """A cancellation need not wait for a heartbeat; a finished result is no work any more."""
    (renew, _), begun = renewing(30), boottime()
    ended: list[str] = []
    with contextlib.nullcontext() if is_done else pytest.raises(LeaseLost, match="canceled"):
        async with held(begun + 30, renew, interval=lambda: 10, lease_time=30) as lease:
            if is_done:
                lease.work_is_done()
            lease.lose("canceled")
            lease.lose("again")
            await asyncio.sleep(0.3)
            ended.append("by itself")
    assert ended == (["by itself"] if is_done else [])


async def test_an_interval_that_becomes_shorter_counts_at_once() -> None:
    """Push went down: the next heartbeat must not wait for the time that was meant before."""
    intervals = [30.0]
    beats = []

    async def renew(beat: int, _: Report) -> float:
        beats.append(beat)
        return boottime() + 60

    async with held(boottime() + 60, renew, interval=lambda: intervals[0], lease_time=60):
        await asyncio.sleep(0.1)
        assert beats == [1]
        intervals[0] = 0.5
        await until(lambda: len(beats) > 1, limit=20)


async def test_a_short_first_lease_is_no_renewal_that_was_nearly_late() -> None:
    """Every attempt has one; it would stand where an operator looks for leases about to be lost."""
    renew, _ = renewing()
    told: list[tuple[str, float | None]] = []
    async with held(
        boottime() + 1,
        renew,
        interval=lambda: 0.01,
        lease_time=LEASE_TIME,
        renewed=lambda outcome, slack: told.append((outcome, slack)),
    ):
        async with asyncio.timeout(5):
            while len(told) < 2:
                await asyncio.sleep(0.01)
    assert told[0] == ("ok", None)
    assert told[1][0] == "ok"
    assert told[1][1]
