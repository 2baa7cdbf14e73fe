"""Claims and waiting results, against the local backend: what is done is never claimed again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from devtools.backend import Backend, local_backend
from devtools.stack import Keys, operator
from fondation_worker import entry
from fondation_worker.claims import Claims, Deployment
from fondation_worker.convex import connect
from fondation_worker.entry import Entry
from fondation_worker.errors import LeaseLost
from fondation_worker.life import lived
from fondation_worker.outbox import Outbox
from fondation_worker.queue import Claimed, Idle, Queue, Report
from fondation_worker.redact import Redactor
from fondation_worker.result import Result, documents_from
from tests.edges.test_convex import fault
from tests.processes import until

KEYS = Keys.new()
RESULT = Result(documents=documents_from("# Done\n", fallback_title="x"), commit="0" * 40)


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[Backend]:
    """Run a local backend with one job."""
    environ = KEYS.deployment | {"FONDATION_MIN_LEASE_MS": "1000"}
    async with local_backend(tmp_path / "convex", faults=True, environ=environ) as running:
        await enqueue(running)
        yield running


async def enqueue(backend: Backend) -> None:
    """Put a job in."""
    async with operator(backend.url, KEYS) as jobs:
        await jobs.enqueue(prompt="x", cloneUrl="https://example.com/x")


@asynccontextmanager
async def worker(backend: Backend, home: Path, name: str) -> AsyncIterator[tuple[Queue, Outbox]]:
    """Live as a worker: its queue, and its outbox with what earlier lives left."""
    async with (
        lived(home / "state", home / "temp", name) as life,
        connect(backend.url, "") as calls,
    ):
        queue = Queue(
            calls,
            key=KEYS.worker,
            worker_id="w",
            instance=name,
            lease_time=10,
            redact=Redactor([]),
        )
        here = Deployment(url=backend.url, functions="")
        outbox = Outbox(life, Claims(life, here), here, queue)
        await outbox.adopt()
        yield queue, outbox


async def done_and_dead(backend: Backend, home: Path) -> Claimed:
    """Claim the job and leave its result on disk, as a life that was killed would."""
    async with worker(backend, home, "w-1") as (queue, _):
        claimed = await queue.claim()
        assert isinstance(claimed, Claimed)
        await queue.heartbeat(claimed.token, beat=1, report=Report(status="gathering"))
        kept = Entry(
            token=claimed.token,
            deployment=Deployment(url=backend.url, functions=""),
            since=queue.now(),
            result=RESULT,
        )
        entry.write(home / "state" / "lives" / "w-1" / "outbox", kept)
    return claimed


async def move_clock(backend: Backend, seconds: float) -> None:
    """Move the deployment's clock ahead, as time passes: no outage."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{backend.url}/_clock", json={"advanceMs": seconds * 1000}) as answer,
    ):
        assert answer.status == 200


async def status_of(backend: Backend, job_id: str) -> str:
    """Return the status of a job."""
    async with operator(backend.url, KEYS) as jobs:
        return str((await jobs.job(job_id))["status"])


async def test_a_result_is_offered_before_the_first_claim(backend: Backend, tmp_path: Path) -> None:
    """Lease and grace are over, and its job is the next to be claimed: by whoever is first."""
    claimed = await done_and_dead(backend, tmp_path)
    await move_clock(backend, 10 + 600 + 60)
    async with worker(backend, tmp_path, "w-2") as (queue, outbox):
        assert outbox.waiting[0] == 1
        assert isinstance(await queue.claim(first=outbox.before_claim), Idle)
        assert outbox.waiting == (0, None)
    assert await status_of(backend, claimed.token.job_id) == "completed"
    assert list((tmp_path / "state" / "lives").iterdir()) == []


async def test_a_result_that_cannot_be_handed_in_stops_no_claim(
    backend: Backend, tmp_path: Path
) -> None:
    """It was offered once, Convex answers, and there is other work."""
    await done_and_dead(backend, tmp_path)
    await enqueue(backend)
    await fault(backend, fault="conflict", path="queue:complete", times=1000)
    async with worker(backend, tmp_path, "w-2") as (queue, outbox), asyncio.timeout(30):
        assert isinstance(await queue.claim(first=outbox.before_claim), Claimed)
        assert outbox.waiting[0] == 1


async def test_a_result_is_offered_again_after_an_outage_before_a_claim(
    backend: Backend, tmp_path: Path
) -> None:
    """The claim had begun when Convex went down; it is the offer that comes first afterwards."""
    claimed = await done_and_dead(backend, tmp_path)
    await move_clock(backend, 10 + 600 + 60)
    async with worker(backend, tmp_path, "w-2") as (queue, outbox), asyncio.TaskGroup() as group:
        await backend.kill()
        claiming = group.create_task(queue.claim(first=outbox.before_claim))
        await asyncio.sleep(1)
        assert not claiming.done()
        await backend.restart()
        assert isinstance(await claiming, Idle)
    assert await status_of(backend, claimed.token.job_id) == "completed"


async def test_a_result_is_offered_again_after_an_outage_that_no_claim_saw(
    backend: Backend, tmp_path: Path
) -> None:
    """It was offered before, and the first call that Convex answers again is another one."""
    claimed = await done_and_dead(backend, tmp_path)
    await fault(backend, fault="conflict", path="queue:complete", times=1000)
    async with worker(backend, tmp_path, "w-2") as (queue, outbox), asyncio.timeout(60):
        assert isinstance(await queue.claim(first=outbox.before_claim), Idle)
        assert outbox.waiting[0] == 1
        await backend.kill()
        assert not await queue.answers()
        await backend.restart()  # forgets the faults
        assert await queue.answers()
        await move_clock(backend, 10 + 600 + 60)
        assert isinstance(await queue.claim(first=outbox.before_claim), Idle)
    assert await status_of(backend, claimed.token.job_id) == "completed"


async def test_a_refused_result_is_told_and_kept(backend: Backend, tmp_path: Path) -> None:
    """Whoever waits for it learns why."""
    async with worker(backend, tmp_path, "w-1") as (queue, outbox):
        claimed = await queue.claim()
        assert isinstance(claimed, Claimed)
        async with operator(backend.url, KEYS) as jobs:
            await jobs.cancel(claimed.token.job_id)
        await outbox.put(claimed.token, RESULT)
        assert outbox.is_on_disk(claimed.token)
        with pytest.raises(LeaseLost, match="canceled"):
            await outbox.deliver(claimed.token)
        assert (outbox.waiting[0], outbox.refused) == (0, 1)


async def test_a_result_that_another_slot_handed_in_is_delivered(
    backend: Backend, tmp_path: Path
) -> None:
    """Before its claim another slot offers what waits here, before our own does."""
    async with worker(backend, tmp_path, "w-1") as (queue, outbox):
        claimed = await queue.claim()
        assert isinstance(claimed, Claimed)
        await queue.heartbeat(claimed.token, beat=1, report=Report(status="gathering"))
        putting = asyncio.create_task(outbox.put(claimed.token, RESULT))
        await asyncio.sleep(0)  # it has begun to write
        await outbox.before_claim()
        await putting
        await outbox.deliver(claimed.token)
        assert outbox.waiting == (0, None)
    assert list((tmp_path / "state").rglob("manifest*")) == []


async def test_a_result_that_its_slot_has_left_is_offered_beside_the_work(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease was lost in the very moment in which it was there."""
    monkeypatch.setattr("fondation_worker.outbox.OFFER_INTERVAL", 0.1)
    async with worker(backend, tmp_path, "w-1") as (queue, outbox):
        claimed = await queue.claim()
        assert isinstance(claimed, Claimed)
        await queue.heartbeat(claimed.token, beat=1, report=Report(status="gathering"))
        await outbox.put(claimed.token, RESULT)
        outbox.leave(claimed.token)
        offering = asyncio.create_task(outbox.keep_offering())
        try:
            await until(lambda: outbox.waiting[0] == 0, limit=20)
        finally:
            offering.cancel()
