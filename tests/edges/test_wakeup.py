"""Push through the official client in its child process, against the local backend."""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from devtools.backend import Backend, local_backend
from devtools.stack import Keys, operator
from fondation_worker import wakeup
from fondation_worker.clock import boottime
from fondation_worker.convex import Convex, connect
from fondation_worker.queue import Claimed, Queue
from fondation_worker.redact import Redactor
from fondation_worker.wakeup import CHILD, Bell, Listener, Subscription
from tests.processes import parent_of, running, until

TOP = Path(__file__).parents[2]
KEYS = Keys.new()
LIMIT = 20.0  # seconds


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[Backend]:
    """Run a local backend."""
    async with local_backend(tmp_path, faults=True, environ=KEYS.deployment) as started:
        yield started


@asynccontextmanager
async def listening(url: str, key: str = KEYS.worker) -> AsyncIterator[Bell]:
    """Give a bell that rings for the deployment at *url*."""
    async with hearing(url, [], key) as (bell, _):
        yield bell


@asynccontextmanager
async def hearing(
    url: str, canceled: list[list[tuple[str, int]]], key: str = KEYS.worker
) -> AsyncIterator[tuple[Bell, Listener]]:
    """Give a bell for the deployment at *url*; each list of cancellations goes to *canceled*."""
    bell = Bell(poll_interval=3600)
    async with asyncio.TaskGroup() as group:
        listener = Listener(to_hear(url, key), bell, lambda jobs: canceled.append(list(jobs)))
        task = group.create_task(listener.run())
        yield bell, listener
        task.cancel()
    assert children() == []


def to_hear(url: str, key: str) -> Subscription:
    """Return what worker `w-1` listens to."""
    return Subscription(url=url, functions="", key=key, instance="w-1")


def queue_of(convex: Convex, instance: str = "w-1") -> Queue:
    """Return a worker's side of the queue."""
    return Queue(
        convex,
        key=KEYS.worker,
        worker_id="w",
        instance=instance,
        lease_time=60,
        redact=Redactor([]),
    )


async def let_a_minute_pass(backend: Backend) -> None:
    """Move the deployment's clock to the next pulse."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{backend.url}/_clock", json={"advanceMs": 61000}) as answer,
    ):
        assert answer.status == 200, await answer.text()


def children() -> list[int]:
    """Return the listening children of this process; other workers of this host have their own."""
    found = []
    for pid in running(f"{CHILD} "):
        with suppress(OSError):  # one that has ended meanwhile
            if parent_of(pid) == os.getpid():
                found.append(pid)
    return found


async def test_an_enqueued_job_rings(backend: Backend) -> None:
    """Without anybody polling; the poll interval is an hour."""
    async with listening(backend.url) as bell, operator(backend.url, KEYS) as queue:
        await queue.enqueue(prompt="x", cloneUrl="https://example.com/one")
        async with asyncio.timeout(LIMIT):
            assert await bell.wait(heard=0, next_in=None) == "push"


async def test_a_job_behind_the_first_rings_once_that_is_claimed(backend: Backend) -> None:
    """The subscription shows the first job only; taking it shows the next."""
    async with (
        listening(backend.url) as bell,
        operator(backend.url, KEYS) as queue,
        connect(backend.url, "") as convex,
    ):
        for name in ("one", "two"):
            await queue.enqueue(prompt="x", cloneUrl=f"https://example.com/{name}")
        await until(lambda: bell.count, limit=LIMIT)
        heard = bell.count
        assert isinstance(await queue_of(convex).claim(), Claimed)
        async with asyncio.timeout(LIMIT):
            assert await bell.wait(heard=heard, next_in=None) == "push"


async def test_a_due_time_rings_without_push() -> None:
    """Nobody tells when time passes, so the worker knows it itself."""
    bell = Bell(poll_interval=3600)
    async with asyncio.timeout(2):
        assert await bell.wait(heard=0, next_in=0.2) == "due"


async def test_the_poll_rings_without_push() -> None:
    """And is what remains when push is down."""
    bell = Bell(poll_interval=0.2)
    async with asyncio.timeout(2):
        assert await bell.wait(heard=0, next_in=None) == "poll"


async def test_slots_share_the_poll() -> None:
    """What one of them was answered is as good for the others."""
    bell = Bell(poll_interval=0.5)
    polls = 0

    async def slot() -> None:
        nonlocal polls
        while True:
            assert await bell.wait(heard=0, next_in=None) == "poll"
            polls += 1

    async with asyncio.TaskGroup() as group:
        slots = [group.create_task(slot()) for _ in range(8)]
        await asyncio.sleep(1.8)
        for waiting in slots:
            waiting.cancel()
    assert 2 <= polls <= 8  # each for itself: 24


async def test_push_that_comes_up_ends_the_polls() -> None:
    """Those too that were waited for when it did."""
    bell = Bell(poll_interval=0.3)
    waiting = asyncio.create_task(bell.wait(heard=0, next_in=None))
    await asyncio.sleep(0)
    bell.pulse()
    await asyncio.sleep(1)
    assert not waiting.done()
    await bell.announce()
    assert await waiting == "push"


async def test_what_push_did_not_announce_is_not_told_as_push() -> None:
    """Where push is dead, slots wake each other all the same, and its figure must stand still."""
    bell = Bell(poll_interval=3600)
    for ring, source in ((bell.ring, "other"), (bell.lost, "other"), (bell.announce, "push")):
        heard = bell.count
        await ring()
        await bell.ring()  # another slot, in the same moment
        assert await bell.wait(heard=heard, next_in=None) == source


async def test_what_push_announced_shows_that_it_was_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour in which a poll had been quicker is no outage of push once it is heard again."""
    now = boottime()
    monkeypatch.setattr(wakeup, "boottime", lambda: now)
    bell = Bell(poll_interval=3600)
    bell.pulse()
    bell.missed()
    now += 3600
    await bell.announce()
    now += 30
    await bell.lost()
    assert bell.down_for == 30


async def test_the_pulse_shows_that_push_is_up(backend: Backend) -> None:
    """The first one comes within a minute of the deployment's life; here its clock is moved."""
    async with listening(backend.url) as bell:
        await let_a_minute_pass(backend)
        await until(lambda: bell.push_is_up, limit=LIMIT)


async def test_a_pulse_after_a_silence_tells_that_cancellations_are_heard_too(
    backend: Backend,
) -> None:
    """The list of them has not changed meanwhile: nothing else would tell."""
    async with listening(backend.url) as bell:
        await let_a_minute_pass(backend)
        await until(lambda: bell.hears_cancellations, limit=LIMIT)
        await bell.lost()
        assert not bell.hears_cancellations
        await let_a_minute_pass(backend)
        await until(lambda: bell.hears_cancellations, limit=LIMIT)


async def test_a_connection_that_is_made_anew_tells_nothing_twice(backend: Backend) -> None:
    """Each bell that rings is a claim by every worker of the deployment."""
    async with listening(backend.url) as bell, operator(backend.url, KEYS) as queue:
        await queue.enqueue(prompt="x", cloneUrl="https://example.com/one")
        await until(lambda: bell.count, limit=LIMIT)
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{backend.url}/_disconnect", json={}) as answer,
        ):
            assert (await answer.json())["disconnected"] == 1
        await let_a_minute_pass(backend)
        await until(lambda: bell.push_is_up, limit=LIMIT)  # so it is connected again
        assert bell.count == 1


async def test_a_killed_child_is_replaced(backend: Backend) -> None:
    """Push is down for a moment, and the slots are told to look for themselves."""
    async with listening(backend.url) as bell:
        await until(children)
        (child,) = children()
        heard = bell.count
        os.kill(child, signal.SIGKILL)
        async with asyncio.timeout(LIMIT):
            await bell.wait(heard=heard, next_in=None)
        assert not bell.push_is_up
        await until(lambda: children() not in ([], [child]), limit=LIMIT)


async def test_a_refused_key_is_said_and_not_retried_in_silence(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """After a key rotation an operator must find the reason in the log."""
    async with listening(backend.url, key="not a key of this deployment"):
        await until(lambda: "refused the subscription: unauthorized" in caplog.text, limit=LIMIT)


async def test_the_child_dies_with_its_parent(backend: Backend, tmp_path: Path) -> None:
    """SIGKILL of the daemon leaves no listener behind."""
    program = f"""
import asyncio
from fondation_worker.wakeup import Bell, Listener, Subscription
to_hear = Subscription(url={backend.url!r}, functions="", key={KEYS.worker!r}, instance="w-1")
asyncio.run(Listener(to_hear, Bell(60), list).run())
"""
    home = tmp_path / "home"
    home.mkdir()
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", program, cwd=home)
    try:
        await until(lambda: len(running(str(home))) == 2, limit=LIMIT)
    finally:
        parent.send_signal(signal.SIGKILL)
        await parent.wait()
    await until(lambda: not running(str(home)), limit=LIMIT)


async def test_an_absent_deployment_leaves_only_the_poll() -> None:
    """The client keeps trying in its child; nothing here waits for it."""
    async with listening("http://127.0.0.1:1") as bell:
        await until(children, limit=LIMIT)
        await asyncio.sleep(0.5)
        assert not bell.push_is_up


async def test_cancellations_of_this_instance_are_heard(backend: Backend) -> None:
    """With the attempt that they end; those of another worker are not ours to hear."""
    heard: list[list[tuple[str, int]]] = []
    async with (
        hearing(backend.url, heard),
        operator(backend.url, KEYS) as queue,
        connect(backend.url, "") as convex,
    ):
        await until(lambda: heard == [[]], limit=LIMIT)
        mine = ""
        for instance in ("w-2", "w-1"):
            mine = await queue.enqueue(prompt="x", cloneUrl=f"https://example.com/{instance}")
            assert isinstance(await queue_of(convex, instance).claim(), Claimed)
            await queue.cancel(mine)
        await until(lambda: heard[-1], limit=LIMIT)
        assert heard[-1] == [(mine, 1)]


async def test_functions_that_know_no_cancellations_leave_the_rest_of_push(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They are older than this worker: said once, and work is announced all the same."""
    older = tmp_path / "functions"
    shutil.copytree(TOP / "convex", older)
    module = older / "queue.ts"
    text = module.read_text(encoding="utf-8")
    assert "export const cancellations" in text
    module.write_text(
        text.replace("export const cancellations", "const cancellations"), encoding="utf-8"
    )
    async with (
        local_backend(
            tmp_path / "data", functions=older, faults=True, environ=KEYS.deployment
        ) as backend,
        listening(backend.url) as bell,
        operator(backend.url, KEYS) as queue,
    ):
        await until(lambda: "does not tell of cancellations" in caplog.text, limit=LIMIT)
        await queue.enqueue(prompt="x", cloneUrl="https://example.com/one")
        async with asyncio.timeout(LIMIT):
            assert await bell.wait(heard=0, next_in=None) == "push"
        assert not bell.hears_cancellations
        assert "push is down" not in caplog.text


async def test_a_new_key_is_listened_with_at_once(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """Not after the minute that a refused one waits."""
    heard: list[list[tuple[str, int]]] = []
    async with hearing(backend.url, heard, "not a key of this deployment") as (_, listener):
        await until(lambda: "trying again in 60 s" in caplog.text, limit=LIMIT)
        listener.renew(to_hear(backend.url, KEYS.worker))
        await until(lambda: heard == [[]], limit=LIMIT)
