"""Claims against the local backend: whose clock a lease is reckoned by, and from when."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from devtools.backend import Backend, local_backend
from devtools.stack import Keys, operator
from fondation_worker.clock import boottime
from fondation_worker.convex import connect
from fondation_worker.queue import Claimed, Idle, Queue, Report
from fondation_worker.redact import Redactor
from tests.edges.test_convex import fault

KEYS = Keys.new()
FIRST_LEASE = 30.0  # seconds: the protocol's longest until the first heartbeat


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[Backend]:
    """Run a local backend with one job."""
    async with local_backend(tmp_path, faults=True, environ=KEYS.deployment) as running:
        async with operator(running.url, KEYS) as enqueuing:
            await enqueuing.enqueue(prompt="x", cloneUrl="https://example.com/x")
        yield running


@pytest.fixture
async def queue(backend: Backend) -> AsyncIterator[Queue]:
    """Connect to it as a worker."""
    async with connect(backend.url, "") as convex:
        yield Queue(
            convex,
            key=KEYS.worker,
            worker_id="w",
            instance="w-1",
            lease_time=60,
            redact=Redactor(["hidden-word"]),
        )


async def test_a_lease_is_reckoned_from_before_it_was_asked_for(
    backend: Backend, queue: Queue
) -> None:
    """The answer was late; whoever counts from its arrival works on after the lease has ended."""
    await fault(backend, fault="delayAfter", path="queue:claim", ms=1500)
    asked = boottime()
    claimed = await queue.claim()
    assert isinstance(claimed, Claimed)
    assert boottime() > asked + 1.5
    assert asked < claimed.deadline <= asked + FIRST_LEASE + 0.1

    await fault(backend, fault="delayAfter", path="queue:heartbeat", ms=1500)
    asked = boottime()
    deadline = await queue.heartbeat(claimed.token, beat=1, report=Report())
    assert asked + 59 < deadline <= asked + 60.1


async def test_an_outage_before_the_claim_costs_nothing_of_the_lease(
    backend: Backend, queue: Queue
) -> None:
    """Each try counts from its own beginning."""
    await fault(backend, fault="refuse", ms=2500)
    claimed = await queue.claim()
    assert isinstance(claimed, Claimed)
    assert claimed.deadline - boottime() > FIRST_LEASE - 1


async def test_an_empty_queue_says_when_to_come_back(backend: Backend, queue: Queue) -> None:
    """In seconds from now, whatever either wall clock says."""
    assert isinstance(await queue.claim(), Claimed)
    assert await queue.claim() == Idle(next_in=None)
    async with operator(backend.url, KEYS) as enqueuing:
        run_at = queue.now() * 1000 + 60_000
        await enqueuing.enqueue(prompt="x", cloneUrl="https://example.com/y", runAt=run_at)
    idle = await queue.claim()
    assert isinstance(idle, Idle)
    assert 55 < (idle.next_in or 0) <= 60.1


async def test_a_job_that_cannot_be_read_is_failed_and_the_next_is_taken(
    backend: Backend, queue: Queue
) -> None:
    """A row of another version must not stop the worker."""
    async with operator(backend.url, KEYS) as enqueuing:
        (broken,) = await enqueuing.jobs()
        await enqueuing.enqueue(prompt="y", cloneUrl="https://example.com/y")
        await change(backend, broken["id"], {"maxAttempts": 2.5})
        claimed = await queue.claim()
        assert isinstance(claimed, Claimed)
        assert claimed.job.prompt == "y"
        row = await enqueuing.job(broken["id"])
    assert (row["status"], row["errorClass"]) == ("dead", "invalid_job")
    assert "maxAttempts" in row["error"]


async def test_progress_is_redacted(backend: Backend, queue: Queue) -> None:
    """A product shows it to its users."""
    claimed = await queue.claim()
    assert isinstance(claimed, Claimed)
    report = Report(status="analyzing", progress="reading hidden-word.py", step=2)
    await queue.heartbeat(claimed.token, beat=1, report=report)
    async with operator(backend.url, KEYS) as enqueuing:
        row = await enqueuing.job(claimed.job.id)
    assert row["progress"] == "reading [redacted].py"


async def change(backend: Backend, row_id: str, fields: dict[str, float]) -> None:
    """Write to a row as another program might."""
    body = {"table": "jobs", "id": row_id, "fields": fields}
    async with (
        aiohttp.ClientSession() as session,
        session.patch(f"{backend.url}/_rows", json=body) as answer,
    ):
        assert answer.status == 200
