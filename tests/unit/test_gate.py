"""The gate before every claim: what closes it, what is said, and when it opens."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from fondation_worker import gate as module
from fondation_worker.admission import Reason
from fondation_worker.clock import boottime
from fondation_worker.errors import ClaudeFailed, CredentialRefused, Overloaded
from fondation_worker.gate import Gate, keep_testing, wait_before_test
from fondation_worker.pause import NO_REASON, Pause
from tests.processes import until


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often: a test has no time to wait for a second look."""
    monkeypatch.setattr(module, "LOOK", 0.01)
    monkeypatch.setattr(module, "FIRST_TEST", 0.01)


def keys(gate: Gate) -> list[str]:
    """Return the keys of what closes *gate*."""
    return [reason.key for reason in gate.reasons()]


async def test_nothing_is_claimed_until_every_reason_has_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is said once, however often it is looked at."""
    host = [Reason(key="disk", words="no room: 1 byte")]
    gate = Gate(lambda: tuple(host), Pause(tmp_path))
    gate.refuse("bad key")
    gate.close("model", 3600, "busy")
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(gate.opened())
        await asyncio.sleep(0.1)
        assert keys(gate) == ["credential", "model", "disk"]
        host[0] = Reason(key="disk", words="no room: 2 bytes")
        gate.accept()
        gate.open("model")
        await asyncio.sleep(0.1)
        assert not waiting.done()
        host.clear()
    said = [record.message for record in caplog.records]
    assert [line for line in said if "no room" in line] == ["claiming nothing: no room: 1 byte"]
    assert len(said) == 3


async def test_what_closes_for_a_time_opens_after_it(tmp_path: Path) -> None:
    """By the clock that counts while a host sleeps."""
    gate = Gate(tuple, Pause(tmp_path))
    gate.close("model", 0.3, "busy")
    begun = boottime()
    async with asyncio.timeout(20):
        await gate.opened()
    assert boottime() - begun >= 0.3


async def test_a_pause_holds_until_it_is_ended(tmp_path: Path) -> None:
    """And a second gate over the same directory, as after a restart, has it too."""
    pause = Pause(tmp_path)
    assert pause.begin("new disks\nare coming")
    for gate in (Gate(tuple, pause), Gate(tuple, Pause(tmp_path))):
        assert [reason.words for reason in gate.reasons()] == ["paused: new disks are coming"]
        assert gate.is_paused
    pause.end()
    pause.end()
    assert not Gate(tuple, Pause(tmp_path)).is_paused
    assert list(tmp_path.iterdir()) == []


def test_a_pause_without_a_reason_is_one(tmp_path: Path) -> None:
    """An operator may also touch the file."""
    (tmp_path / "paused").touch()
    assert Pause(tmp_path).reason == NO_REASON


def test_a_pause_that_cannot_be_read_is_one(tmp_path: Path) -> None:
    """Better to wait than to work against a wish."""
    (tmp_path / "paused").mkdir()
    assert "cannot be read" in str(Pause(tmp_path).reason)


def test_a_pause_that_cannot_be_kept_holds_and_says_so() -> None:
    """On a full or read-only disk; nobody can make a file in /proc."""
    pause = Pause(Path("/proc"))
    assert not pause.begin("disk full")
    assert pause.reason == "disk full"


def outcomes_of(outcomes: Sequence[Exception | None]) -> Callable[[], Awaitable[None]]:
    """Return a test of a credential that ends in each of *outcomes* in turn."""
    left = list(outcomes)

    async def test() -> None:
        outcome = left.pop(0)
        if outcome:
            raise outcome

    return test


async def test_a_refused_credential_is_tested_until_it_is_taken(tmp_path: Path) -> None:
    """A failure of another kind proves nothing; a fault of ours ends nothing."""
    gate = Gate(tuple, Pause(tmp_path))
    outcomes = [CredentialRefused("no"), ClaudeFailed("crash"), KeyError("bug"), None, None]
    async with asyncio.TaskGroup() as group:
        task = group.create_task(keep_testing(gate, outcomes_of(outcomes), lambda _: 0.0))
        for _ in range(2):  # a credential may be refused again later
            gate.refuse("no")
            await until(lambda: not gate.credential_is_refused, limit=20)
            assert gate.reasons() == ()
        task.cancel()


async def test_a_busy_service_has_taken_the_credential(tmp_path: Path) -> None:
    """But has no capacity: the worker waits for that alone."""
    gate = Gate(tuple, Pause(tmp_path))
    gate.refuse("no")
    async with asyncio.TaskGroup() as group:
        testing = keep_testing(gate, outcomes_of([Overloaded("busy")]), lambda _: 3600.0)
        task = group.create_task(testing)
        await until(lambda: not gate.credential_is_refused, limit=20)
        task.cancel()
    assert keys(gate) == ["model"]


async def test_a_new_credential_is_tested_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever mended it need not wait for the hour to pass."""
    monkeypatch.setattr(module, "FIRST_TEST", 3600.0)
    gate = Gate(tuple, Pause(tmp_path))
    gate.refuse("no")
    async with asyncio.TaskGroup() as group:
        task = group.create_task(keep_testing(gate, outcomes_of([None]), lambda _: 0.0))
        await asyncio.sleep(0.1)
        assert gate.credential_is_refused
        gate.test_now = True
        await until(lambda: not gate.credential_is_refused, limit=20)
        task.cancel()


async def test_a_new_credential_that_is_refused_as_well_is_tested_in_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job has just tried it; that it was new is no news any more."""
    monkeypatch.setattr(module, "FIRST_TEST", 3600.0)
    gate = Gate(tuple, Pause(tmp_path))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(keep_testing(gate, outcomes_of([None]), lambda _: 0.0))
        gate.test_now = True
        gate.refuse("no")
        await asyncio.sleep(0.1)
        assert gate.credential_is_refused
        task.cancel()


def test_the_tests_become_rarer_and_never_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a minute, doubling, to an hour."""
    monkeypatch.undo()
    waits = [wait_before_test(tries) for tries in range(40)]
    assert waits[:4] == [60, 120, 240, 480]
    assert waits == sorted(waits)
    assert waits[-1] == 3600
