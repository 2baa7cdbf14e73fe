"""Every page of the port: what none tells, what none waits for, and what cannot be done there."""

import asyncio
from pathlib import Path

from devtools.stack import PLACEHOLDER
from tests.fakes.messages_api import Stall, say
from tests.flow.stage import on_stage
from tests.processes import until

HANGS = say("never", Stall(at="headers", times=None))
PAGES = (
    *("/", "/health", "/livez?verbose", "/readyz?verbose", "/metrics"),
    "/metrics?format=prometheus",
)
ANSWER_LIMIT = 20.0  # seconds: far less than Convex, or the job, would be waited for


async def test_no_page_tells_a_secret_or_a_prompt(tmp_path: Path) -> None:
    """While a job runs, which has all of them."""
    prompt = "a prompt that is nobody's business"
    async with on_stage(tmp_path, HANGS) as stage:
        worker = await stage.worker()
        await until(lambda: "health: " in worker.messages(), limit=20)
        job_id = await stage.enqueue(prompt)
        await stage.job_in(job_id, "analyzing")
        (row,) = await stage.rows("jobs")
        assert len(row["leaseToken"]) > 20
        for path in PAGES:
            page = await stage.page(worker, path)
            assert page.status == 200, path
            for secret in (prompt, stage.keys.worker, PLACEHOLDER, row["leaseToken"]):
                assert secret not in page.text, path
        assert job_id in (await stage.page(worker, "/health")).text
        await stage.queue.cancel(job_id)
        await stage.ended(job_id)


async def test_no_page_waits_for_convex_or_for_a_job(tmp_path: Path) -> None:
    """A deployment that takes calls and answers none is the worst of both."""
    async with on_stage(tmp_path, HANGS) as stage:
        worker = await stage.worker(HEARTBEAT_INTERVAL="1s", LEASE_TIME="10min")
        await until(lambda: "health: " in worker.messages(), limit=20)
        job_id = await stage.enqueue()
        await stage.job_in(job_id, "analyzing")
        with stage.backend.halted():
            late = "heartbeat"  # told of once one had no answer; another is on its way by then
            await until(lambda: late in worker.messages(), limit=20, what="for a lost heartbeat")
            async with asyncio.timeout(ANSWER_LIMIT):
                for path in PAGES:
                    assert (await stage.page(worker, path)).status in {200, 503}, path
        await stage.queue.cancel(job_id)
        await stage.ended(job_id)


async def test_nothing_can_be_changed_over_the_port(tmp_path: Path) -> None:
    """What steers a worker is on the unix socket alone."""
    async with on_stage(tmp_path, say("never")) as stage:
        worker = await stage.worker()
        await until(lambda: "health: " in worker.messages(), limit=20)
        for path in ("/pause", "/resume", "/reload"):
            assert (await stage.page(worker, path, method="POST")).status == 405
            assert (await stage.page(worker, path)).status == 404
        assert (await stage.health(worker))["paused"] is None
