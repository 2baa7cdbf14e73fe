"""Finished results outlive outages, restarts and SIGKILL; and one that is bad stops nothing."""

import asyncio
import hashlib
import json
import os
import signal
import sys
from pathlib import Path

from devtools.stack import CLAUDE, WorkerProcess
from tests.fakes.messages_api import Script, Stall, Turn, say
from tests.flow.stage import SHORT_LEASE, Stage, on_stage
from tests.processes import command_line, running, until

ON_DISK = "a finished result of job"
PATIENT = {"LEASE_TIME": "60s", "HEARTBEAT_INTERVAL": "2s"}


def shared(stage: Stage) -> dict[str, str]:
    """Return settings of workers that share their directories, which only the first life's are."""
    return {"STATE_DIR": str(stage.home / "state"), "TEMP_DIR": str(stage.home / "temp")}


def entries(stage: Stage) -> list[Path]:
    """Return the results on disk."""
    found = (stage.home / "state" / "lives").glob("*/outbox/*")
    return [place for place in found if not place.name.startswith(".")]


def is_bare(stage: Stage) -> bool:
    """Whether nothing is left of any life."""
    lives = [*(stage.home / "state" / "lives").glob("*"), *(stage.home / "temp").glob("*")]
    return not lives


async def finished(stage: Stage, worker: WorkerProcess) -> None:
    """Wait until a result is on disk and its workspace is gone."""
    await until(lambda: entries(stage), limit=30, what="for a result on disk")
    await until(lambda: "offering the result again" in worker.messages(), limit=30)


async def test_a_result_of_a_killed_worker_is_handed_in_by_its_next_life(tmp_path: Path) -> None:
    """SIGKILL after the result is on disk and before Convex took it: the run is not repeated."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        await stage.fault(fault="conflict", path="queue:complete", times=1000)
        first = await stage.worker(**PATIENT, **shared(stage))
        job_id = await stage.enqueue()
        await finished(stage, first)
        assert (await stage.queue.job(job_id))["status"] == "gathering"
        first.signal(signal.SIGKILL)
        await first.ended()
        await stage.mend()

        second = await stage.worker(**PATIENT, **shared(stage))
        job = await stage.ended(job_id)
        assert (job["status"], job["attempt"], job["attempts"]) == ("completed", 1, 1)
        assert stage.runs() == 1
        assert ON_DISK in second.messages()
        await second.stop()
        assert is_bare(stage)


async def test_a_worker_restarted_in_an_outage_hands_in_what_it_had(tmp_path: Path) -> None:
    """Convex goes down at the end of a run, the worker is stopped and started meanwhile."""
    async with on_stage(tmp_path, Script(turns=(Turn(text="# Done\n", delay=3),))) as stage:
        first = await stage.worker(**PATIENT, **shared(stage))
        job_id = await stage.enqueue()
        await stage.job_in(job_id, "analyzing")
        await until(lambda: stage.runs() == 1, limit=20)
        await stage.backend.kill()
        await finished(stage, first)
        assert await first.stop() == 0
        assert "the next start hands it in" in first.messages()
        second = await stage.worker(**PATIENT, **shared(stage))
        await until(lambda: ON_DISK in second.messages(), limit=20)
        await stage.backend.restart()
        job = await stage.ended(job_id)
        assert (job["status"], job["attempt"]) == ("completed", 1)
        assert stage.runs() == 1
        await second.stop()
        assert is_bare(stage)


async def test_nobody_claims_the_job_whose_result_waits(tmp_path: Path) -> None:
    """An outage for lease, grace and a minute more, and a second slot with nothing to do."""
    async with on_stage(tmp_path, Script(turns=(Turn(text="# Done\n", delay=2),))) as stage:
        settings = {"LEASE_TIME": "10s", "HEARTBEAT_INTERVAL": "2s", "MAX_CONCURRENT_JOBS": "2"}
        worker = await stage.worker(**settings, **shared(stage))
        job_id = await stage.enqueue()
        await until(lambda: stage.runs() == 1, limit=20)
        await stage.fault(fault="conflict", path="queue:complete", times=1000)
        await finished(stage, worker)
        await stage.backend.kill()
        await until(lambda: "no answer from Convex" in worker.messages(), limit=20)
        await stage.backend.restart()  # a restart forgets the faults
        await stage.move_clock(10 + 600 + 60)
        job = await stage.ended(job_id)
        assert (job["status"], job["attempt"]) == ("completed", 1)
        assert stage.runs() == 1


async def test_bad_entries_stop_nothing(tmp_path: Path) -> None:
    """Refused, damaged, and of another deployment: the first two are kept for people to look at."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        await stage.fault(fault="conflict", path="queue:complete", times=1000)
        first = await stage.worker(**PATIENT, **shared(stage))
        job_id = await stage.enqueue()
        await finished(stage, first)
        first.signal(signal.SIGKILL)
        await first.ended()
        await stage.mend()
        assert (await stage.queue.cancel(job_id))["status"] == "canceled"
        (refused,) = entries(stage)
        manifest = json.loads((refused / "manifest.json").read_text())
        foreign, torn = refused.with_name("foreign-1"), refused.with_name("torn-1")
        foreign.mkdir()
        torn.mkdir()
        (foreign / "0.md").write_bytes((refused / "0.md").read_bytes())
        other = manifest | {"url": "https://elsewhere.example"}
        (foreign / "manifest.json").write_text(json.dumps(other))
        seal = hashlib.sha256(json.dumps(other).encode()).hexdigest()
        (foreign / "manifest.sha256").write_text(seal)
        (torn / "manifest.json").write_text(json.dumps(manifest)[:-30])

        second = await stage.worker(**PATIENT, **shared(stage))
        next_job = await stage.enqueue("another")
        assert (await stage.ended(next_job))["status"] == "completed"
        assert entries(stage) == [foreign]
        kept = sorted(place.name for place in (tmp_path / "state" / "refused").iterdir())
        assert len(kept) == 2
        (reason,) = (tmp_path / "state" / "refused").glob(f"{refused.name}*/reason")
        assert "canceled" in reason.read_text()
        outbox = (await stage.health(second))["outbox"]
        assert (outbox["waiting"], outbox["refused"], outbox["ofOtherDeployments"]) == (0, 2, 1)
        assert stage.runs("another") == 1
        assert stage.runs() == 2


async def test_a_crash_is_reported_and_what_it_left_is_cleared(tmp_path: Path) -> None:
    """Two workers share everything; one is killed, and a process of its run got away."""
    wrapper = tmp_path / "claude"
    orphan = "import time; time.sleep(3600)"
    wrapper.write_text(
        f"#!/bin/sh\nsetsid {sys.executable} -c '{orphan}' {tmp_path} >/dev/null 2>&1 &\n"
        f'exec {CLAUDE} "$@"\n'
    )
    wrapper.chmod(0o755)
    script = say("# Done\n", Stall(at="headers", times=2))
    async with on_stage(tmp_path, script) as stage:
        # Both of the first runs stand still; the neighbour's goes on doing so.
        doomed = await stage.worker(**shared(stage), CLAUDE_CLI=str(wrapper), LEASE_TIME="10min")
        first = await stage.enqueue("doomed")
        await until(lambda: stage.runs("doomed") == 1, limit=30)
        neighbour = await stage.worker(**shared(stage), LEASE_TIME="10min")
        second = await stage.enqueue("neighbour")
        await until(lambda: stage.runs("neighbour") == 1, limit=30)
        doomed.signal(signal.SIGSTOP)  # so that it cannot tidy up
        for pid in running(str(tmp_path)):
            if "launcher.py" in command_line(pid) and str(wrapper) in command_line(pid):
                os.kill(pid, signal.SIGKILL)
        doomed.signal(signal.SIGKILL)
        await doomed.ended()
        assert [pid for pid in running(str(tmp_path)) if orphan in command_line(pid)]
        assert len(list((tmp_path / "temp").iterdir())) == 2

        third = await stage.worker(**shared(stage))
        job = await stage.job_in(first, "pending")  # at once, not when its lease runs out
        assert (job["errorClass"], job["attempts"]) == ("crash", 1)
        job = await stage.ended(first)
        assert (job["status"], job["attempt"]) == ("completed", 2)
        assert not [pid for pid in running(str(tmp_path)) if orphan in command_line(pid)]
        assert "its last attempt crashed; reported" in third.messages()
        assert (await stage.queue.job(second))["status"] == "analyzing"
        assert len(list((tmp_path / "temp").iterdir())) >= 2
        await neighbour.stop()
        await stage.queue.cancel(second)
        await third.stop()
        assert is_bare(stage)


async def test_a_worker_stopped_for_three_leases_writes_nothing_and_works_on(
    tmp_path: Path,
) -> None:
    """It learns that its lease is gone before it writes, kills its run, and claims again."""
    script = say("# Done\n", Stall(at="headers", times=1))
    async with on_stage(tmp_path, script) as stage:
        worker = await stage.worker(**SHORT_LEASE)
        job_id = await stage.enqueue()
        await until(lambda: stage.runs() == 1, limit=30)
        worker.signal(signal.SIGSTOP)
        await asyncio.sleep(9)
        worker.signal(signal.SIGCONT)
        job = await stage.ended(job_id)
        assert "the lease is lost" in worker.messages()
        assert (job["status"], job["attempt"], job["docsCount"]) == ("completed", 2, 1)
        assert stage.runs() == 2


async def test_the_deployments_clock_may_jump(tmp_path: Path) -> None:
    """An hour ahead at once in mid-run: at worst the lease is lost, and the job done again."""
    async with on_stage(tmp_path, Script(turns=(Turn(text="# Done\n", delay=4),))) as stage:
        worker = await stage.worker(**PATIENT)
        job_id = await stage.enqueue()
        await until(lambda: stage.runs() == 1, limit=30)
        await stage.jump_clock(3600)
        await until(lambda: "the lease is lost" in worker.messages(), limit=30)
        await stage.move_clock(180)  # what looked like an outage is over
        job = await stage.ended(job_id)
        assert job["status"] == "completed"
        assert len(await stage.queue.documents(job_id)) == 1
