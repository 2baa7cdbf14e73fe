"""Workers, backends and connections that die: every job ends, and none runs twice for nothing."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from devtools.stack import CLAUDE
from tests.fakes.messages_api import Script, Stall, Turn, say
from tests.flow.stage import SHORT_LEASE, Stage, on_stage
from tests.processes import command_line, running, until

SLOW = Script(turns=(Turn(text="# Done\n", delay=6),))
HOUR = "1h"


async def in_the_model(stage: Stage, job_id: str, runs: int = 1) -> None:
    """Wait until the job's run has asked the model."""
    await stage.job_in(job_id, "analyzing")
    await until(lambda: stage.runs() >= runs, limit=30, what="for a run to ask the model")


async def test_a_job_of_a_killed_worker_is_finished_by_another(tmp_path: Path) -> None:
    """SIGKILL in mid-run: its processes go at once, its lease runs out, another takes over."""
    script = say("# Done\n", Stall(at="headers", times=1))
    async with on_stage(tmp_path, script, directories_left=True) as stage:
        first = await stage.worker(**SHORT_LEASE)
        job_id = await stage.enqueue()
        await in_the_model(stage, job_id)
        first.signal(signal.SIGKILL)
        await first.ended()
        work = str(tmp_path / "worker-1" / "work")
        await until(lambda: not running(work), what="for the run of a killed worker to die")

        await stage.worker(**SHORT_LEASE)
        job = await stage.ended(job_id)
        assert job["status"] == "completed"
        assert (job["attempt"], job["attempts"]) == (2, 2)
        assert stage.runs() == 2
        assert len(await stage.queue.documents(job_id)) == 1


async def test_a_stopped_worker_gives_its_job_back_unspent(tmp_path: Path) -> None:
    """SIGTERM in mid-run without time to drain: the run is killed, the job is free at once."""
    script = say("# Done\n", Stall(at="headers", times=1))
    async with on_stage(tmp_path, script) as stage:
        first = await stage.worker(DRAIN_TIME="0")
        job_id = await stage.enqueue()
        await in_the_model(stage, job_id)
        assert await first.stop() == 0
        job = await stage.queue.job(job_id)
        assert (job["status"], job["attempts"]) == ("pending", 0)
        assert not running(str(tmp_path / "worker-1" / "work"))

        await stage.worker()
        job = await stage.ended(job_id)
        assert (job["status"], job["attempt"], job["attempts"]) == ("completed", 2, 1)


async def test_a_stopped_worker_lets_its_job_finish_within_the_drain_time(tmp_path: Path) -> None:
    """And claims nothing more."""
    async with on_stage(tmp_path, SLOW) as stage:
        worker = await stage.worker(DRAIN_TIME="40s")
        first = await stage.enqueue()
        await in_the_model(stage, first)
        second = await stage.enqueue()
        assert await worker.stop() == 0
        assert (await stage.queue.job(first))["status"] == "completed"
        assert (await stage.queue.job(second))["status"] == "pending"
        assert stage.runs() == 1


async def test_an_idle_worker_stops_at_once(tmp_path: Path) -> None:
    """With push up, with Convex down: nothing keeps it."""
    async with on_stage(tmp_path, say("never")) as stage:
        idle = await stage.worker(DRAIN_TIME="10min")
        await until(lambda: "starts as" in idle.messages())
        await asyncio.sleep(1)
        async with asyncio.timeout(3):
            assert await idle.stop() == 0
        await stage.backend.kill()
        cut_off = await stage.worker(DRAIN_TIME="10min")
        await until(lambda: "asking again" in cut_off.messages())
        async with asyncio.timeout(3):
            assert await cut_off.stop() == 0
        await stage.backend.restart()


async def test_convex_down_at_the_start_is_waited_for(tmp_path: Path) -> None:
    """The worker says so, lives, and begins when Convex is there."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        job_id = await stage.enqueue()
        await stage.backend.kill()
        worker = await stage.worker()
        await until(lambda: "no answer from Convex" in worker.messages())
        await asyncio.sleep(1)
        assert worker.exit_status is None
        await stage.backend.restart()
        assert (await stage.ended(job_id))["status"] == "completed"
        assert stage.runs() == 1


async def test_convex_down_in_the_middle_costs_nothing_while_the_lease_holds(
    tmp_path: Path,
) -> None:
    """The run goes on; its result is handed in when Convex is back."""
    async with on_stage(tmp_path, SLOW) as stage:
        await stage.worker(LEASE_TIME="60s", HEARTBEAT_INTERVAL="2s")
        job_id = await stage.enqueue()
        await in_the_model(stage, job_id)
        await stage.backend.kill()
        await asyncio.sleep(8)  # the run ends in this time, with nobody to take its result
        await stage.backend.restart()
        job = await stage.ended(job_id)
        assert (job["status"], job["attempts"]) == ("completed", 1)
        assert stage.runs() == 1


async def test_a_lease_that_ends_while_convex_is_down_ends_the_run(tmp_path: Path) -> None:
    """The worker knows by its own clock, and its run is dead when another may start."""
    script = say("# Done\n", Stall(at="headers", times=1))
    async with on_stage(tmp_path, script) as stage:
        worker = await stage.worker(**SHORT_LEASE)
        job_id = await stage.enqueue()
        await in_the_model(stage, job_id)
        await stage.backend.kill()
        await until(lambda: "the lease is lost: expired" in worker.messages(), limit=10)
        assert not running(str(tmp_path / "worker-1" / "work"))
        await stage.backend.restart()
        job = await stage.ended(job_id)
        assert (job["status"], job["attempt"]) == ("completed", 2)


async def test_a_finished_result_outlives_its_lease(tmp_path: Path) -> None:
    """The run ended in an outage that was longer than the lease: it is not run again."""
    async with on_stage(tmp_path, Script(turns=(Turn(text="# Done\n", delay=2),))) as stage:
        worker = await stage.worker(LEASE_TIME="10s", HEARTBEAT_INTERVAL="2s")
        job_id = await stage.enqueue()
        await in_the_model(stage, job_id)
        await stage.backend.kill()
        await until(lambda: "analysed in" in worker.messages(), limit=20)
        await asyncio.sleep(12)
        await stage.backend.restart()
        job = await stage.ended(job_id)
        assert (job["status"], job["attempt"]) == ("completed", 1)
        assert stage.runs() == 1


@pytest.mark.parametrize(
    "path", ["queue:claim", "queue:heartbeat", "queue:stageDocs", "queue:complete"]
)
async def test_a_lost_reply_neither_loses_nor_doubles_a_job(tmp_path: Path, path: str) -> None:
    """The call was carried out and nobody heard: it is asked again with the same token."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        await stage.fault(fault="lostReply", path=path, times=2)
        await stage.worker()
        job_id = await stage.enqueue()
        job = await stage.ended(job_id)
        assert (job["status"], job["attempt"], job["attempts"]) == ("completed", 1, 1)
        assert stage.runs() == 1
        assert len(await stage.queue.documents(job_id)) == 1
        assert len(await stage.rows("docs")) == 1
        assert len(await stage.rows("attempts")) == 1


@pytest.mark.parametrize("path", ["queue:fail", "queue:release"])
async def test_a_lost_reply_to_a_failure_or_release_spends_nothing_twice(
    tmp_path: Path, path: str
) -> None:
    """Two more ways for an attempt to end."""
    script = say("# Done\n", Stall(at="headers", times=1))
    async with on_stage(tmp_path, script) as stage:
        await stage.fault(fault="lostReply", path=path, times=2)
        settings = {"JOB_TIMEOUT": "4s"} if path == "queue:fail" else {}
        first = await stage.worker(**settings)
        job_id = await stage.enqueue()
        await in_the_model(stage, job_id)
        if path == "queue:release":
            await first.stop()
        else:
            await stage.job_in(job_id, "pending")
        job = await stage.queue.job(job_id)
        assert job["attempts"] == (1 if path == "queue:fail" else 0)
        await stage.worker(JOB_TIMEOUT="1min")
        assert (await stage.ended(job_id))["status"] == "completed"


async def test_conflicts_are_asked_again(tmp_path: Path) -> None:
    """Convex gave up its own retries; the worker has not."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        for path in ("queue:claim", "queue:complete"):
            await stage.fault(fault="conflict", path=path, times=2)
        await stage.worker()
        job_id = await stage.enqueue()
        assert (await stage.ended(job_id))["status"] == "completed"
        assert stage.runs() == 1


@pytest.mark.parametrize("status", ["canceled", "failed"])
async def test_a_status_written_by_a_front_end_ends_the_run(tmp_path: Path, status: str) -> None:
    """The Node worker's front ends cancel by writing the row; the next heartbeat learns of it."""
    script = say("# Done\n", Stall(at="headers", times=None))
    async with on_stage(tmp_path, script) as stage:
        worker = await stage.worker(HEARTBEAT_INTERVAL="1s", LEASE_TIME="30s")
        job_id = await stage.enqueue()
        await in_the_model(stage, job_id)
        await stage.change_row("jobs", job_id, {"status": status})
        await until(lambda: "the lease is lost: canceled" in worker.messages(), limit=10)
        await until(lambda: not running(str(tmp_path / "worker-1" / "work")))
        await asyncio.sleep(1)
        assert (await stage.queue.job(job_id))["status"] == status
        assert await stage.rows("docs") == []


async def test_a_worker_that_was_stopped_for_longer_than_its_lease_writes_nothing(
    tmp_path: Path,
) -> None:
    """SIGSTOP and SIGCONT: it wakes into a lease that is gone, and another has finished the job."""
    script = say("# Done\n", Stall(at="headers", times=1))
    async with on_stage(tmp_path, script) as stage:
        first = await stage.worker(**SHORT_LEASE)
        job_id = await stage.enqueue()
        await in_the_model(stage, job_id)
        first.signal(signal.SIGSTOP)
        try:
            await stage.worker(**SHORT_LEASE)
            job = await stage.ended(job_id)
            assert (job["status"], job["attempt"]) == ("completed", 2)
        finally:
            first.signal(signal.SIGCONT)
        await until(lambda: "the lease is lost" in first.messages(), limit=10)
        assert await stage.queue.job(job_id) == job
        assert len(await stage.rows("docs")) == 1


@pytest.mark.usefixtures("no_memory_kill")
async def test_a_killed_cli_is_another_attempt(tmp_path: Path) -> None:
    """An operator did it, or whoever else."""
    script = say("# Done\n", Stall(at="headers", times=1))
    async with on_stage(tmp_path, script) as stage:
        await stage.worker()
        job_id = await stage.enqueue()
        await in_the_model(stage, job_id)
        (cli,) = (
            pid
            for pid in running(str(tmp_path / "worker-1" / "work"))
            if command_line(pid).startswith(str(CLAUDE))
        )
        os.kill(cli, signal.SIGKILL)
        job = await stage.job_in(job_id, "pending")
        assert job["errorClass"] == "claude_failed"
        assert "was killed (SIGKILL)" in job["lastError"]
        job = await stage.ended(job_id)
        assert (job["status"], job["attempts"]) == ("completed", 2)
