"""A cancelled job's run ends: soon by push, with a heartbeat without, and with all it started."""

import sys
from pathlib import Path

import pytest

from tests.fakes.messages_api import Script, Stall, Turn, say, when
from tests.flow.stage import Stage, on_stage
from tests.processes import running, until

HANGS = say("never", Stall(at="headers", times=None))

# Without a child there is no push; nothing else of the program is changed.
DEAF = """
from pathlib import Path
from fondation_worker import wakeup
from fondation_worker.cli import main
wakeup.CHILD = Path("/nowhere")
main(["run"])
"""


async def in_the_model(stage: Stage, *job_ids: str) -> None:
    """Wait until the jobs' runs have asked the model."""
    for job_id in job_ids:
        await stage.job_in(job_id, "analyzing")
    await until(lambda: stage.runs() >= len(job_ids), limit=30, what="for the runs")


async def test_a_cancellation_ends_its_run_and_no_other_by_push(tmp_path: Path) -> None:
    """A heartbeat is five minutes away; the other slot's job is finished meanwhile."""
    slow = Script(turns=(Turn(text="# Done\n", delay=5),))
    script = [when("hang", HANGS), when("slow", slow)]
    async with on_stage(tmp_path, script) as stage:
        worker = await stage.worker(
            MAX_CONCURRENT_JOBS="2", LEASE_TIME="10min", HEARTBEAT_INTERVAL="5min"
        )
        await stage.push_is_up(worker)
        doomed, other = await stage.enqueue("hang"), await stage.enqueue("slow")
        await in_the_model(stage, doomed, other)
        (of_the_doomed,) = (tmp_path / "worker-1" / "work").rglob(f"*{doomed}-1")
        assert running(str(of_the_doomed))
        assert await stage.queue.cancel(doomed)
        await until(lambda: not running(str(of_the_doomed)), limit=20)
        await until(lambda: not of_the_doomed.exists(), limit=20)
        assert f"canceled: job {doomed} attempt 1" in worker.messages()
        assert (await stage.ended(other))["status"] == "completed"
        assert (await stage.queue.job(doomed))["status"] == "canceled"


async def test_a_cancellation_without_push_is_met_at_a_heartbeat(tmp_path: Path) -> None:
    """Which comes every ten seconds then, whatever HEARTBEAT_INTERVAL says; the slot is free."""
    async with on_stage(tmp_path, [when("hang", HANGS), when("", say("# Done\n"))]) as stage:
        worker = await stage.worker(
            (sys.executable, "-c", DEAF), LEASE_TIME="10min", HEARTBEAT_INTERVAL="5min"
        )
        doomed = await stage.enqueue("hang")
        await in_the_model(stage, doomed)
        await stage.queue.cancel(doomed)
        await until(lambda: "the lease is lost: canceled" in worker.messages(), limit=40)
        assert (await stage.ended(await stage.enqueue("next")))["status"] == "completed"
        assert (await stage.queue.job(doomed))["status"] == "canceled"
        assert not running(str(tmp_path / "worker-1" / "work"))


@pytest.mark.parametrize("moment", ["claimed", "gathering"])
async def test_a_cancellation_at_either_end_of_a_job_is_final(tmp_path: Path, moment: str) -> None:
    """Before the run began, and when its result is on the way: nothing is saved."""
    function = "heartbeat" if moment == "claimed" else "complete"
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        worker = await stage.worker()
        await stage.push_is_up(worker)
        await stage.fault(fault="delayBefore", path=f"queue:{function}", ms=3000)
        job_id = await stage.enqueue()
        await stage.job_in(job_id, moment)
        await stage.queue.cancel(job_id)
        await until(lambda: "lease is lost: canceled" in worker.messages(), limit=30)
        assert (await stage.queue.job(job_id))["status"] == "canceled"
        assert await stage.queue.documents(job_id) == []
        assert stage.runs() == (0 if moment == "claimed" else 1)
