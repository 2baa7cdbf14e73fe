"""Claims of several workers at once, where Convex meets conflicts and replies get lost."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from devtools.backend import Backend, local_backend
from devtools.stack import Keys, operator
from fondation_worker.convex import connect
from fondation_worker.queue import Claimed, Queue, Report
from fondation_worker.redact import Redactor
from tests.edges.test_convex import fault

KEYS = Keys.new()
WORKERS = 6
JOBS = 30


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[Backend]:
    """Run a local backend with more jobs than workers."""
    async with local_backend(tmp_path, faults=True, environ=KEYS.deployment) as running:
        async with operator(running.url, KEYS) as enqueuing:
            for i in range(JOBS):
                await enqueuing.enqueue(prompt="x", cloneUrl=f"https://example.com/{i}")
        yield running


@pytest.mark.parametrize("name", ["conflict", "lostReply"])
async def test_each_job_is_claimed_once(backend: Backend, name: str) -> None:
    """Every worker asks again with its token: no job is given twice, none is lost."""
    await fault(backend, fault=name, path="queue:claim", times=15)
    async with connect(backend.url, "") as convex, asyncio.TaskGroup() as group:
        queues = [
            Queue(
                convex,
                key=KEYS.worker,
                worker_id="w",
                instance=f"w-{i}",
                lease_time=600,
                redact=Redactor([]),
            )
            for i in range(WORKERS)
        ]
        claiming = [group.create_task(claim_all(queue)) for queue in queues]
    claimed = [job_id for task in claiming for job_id in task.result()]
    assert len(claimed) == len(set(claimed)) == JOBS
    attempts = await rows(backend, "attempts")
    assert sorted(row["jobId"] for row in attempts) == sorted(claimed)
    assert not await rules_left(backend)


async def claim_all(queue: Queue) -> list[str]:
    """Claim until there is nothing; return the ids of the jobs that *queue* got."""
    ids = []
    while isinstance(claimed := await queue.claim(), Claimed):
        await queue.heartbeat(claimed.token, beat=1, report=Report())
        ids.append(claimed.job.id)
    return ids


async def rows(backend: Backend, table: str) -> list[dict[str, Any]]:
    """Return the rows of *table*."""
    return list((await get(backend, f"/_rows?table={table}"))["rows"])


async def rules_left(backend: Backend) -> list[Any]:
    """Return the faults that no call met."""
    return list(await get(backend, "/_faults"))


async def get(backend: Backend, path: str) -> Any:
    """Return what the interface for tests answers."""
    async with aiohttp.ClientSession() as session, session.get(backend.url + path) as response:
        return await response.json()
