"""SIGHUP and the second SIGTERM, through the installed program."""

import signal
from pathlib import Path
from typing import Any

from devtools.stack import PROGRAM, WorkerProcess
from tests.fakes.messages_api import Script, Stall, Status, Turn, say, when
from tests.flow.stage import Stage, on_stage
from tests.flow.test_gate import control, reasons
from tests.processes import running, until

HANGS = say("never", Stall(at="headers", times=None))


class File:
    """The INI file of a worker that can be reloaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, **settings: str) -> None:
        """Write *settings*, and nothing else."""
        lines = "".join(f"{name.lower()} = {value}\n" for name, value in settings.items())
        self.path.write_text(f"[worker]\n{lines}", encoding="utf-8")


async def filed_worker(
    stage: Stage, settings: dict[str, str], **environ: Any
) -> tuple[WorkerProcess, File]:
    """Start a worker with some *settings* in a file; *environ* rules over it."""
    file = File(stage.home / "worker.ini")
    file.write(**settings)
    program = (str(PROGRAM), "run", "--config", str(file.path))
    return await stage.worker(program, **environ), file


async def test_a_full_disk_holds_claims_until_the_floor_is_lowered_by_a_reload(
    tmp_path: Path,
) -> None:
    """A faulty reload before it changes nothing, and lists every fault."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        high = {"DISK_FLOOR": "1000TiB", "LOG_LEVEL": "warning"}
        worker, file = await filed_worker(stage, high, DISK_FLOOR="")
        job_id = await stage.enqueue()
        await until(lambda: "less than DISK_FLOOR (1000 TiB)" in worker.messages(), limit=20)
        assert "TEMP_DIR" in await reasons(worker)
        assert "STATE_DIR" in await reasons(worker)

        file.write(DISK_FLOOR="none", LOG_LEVEL="loud", DRAIN_TIME="1s")
        worker.signal(signal.SIGHUP)
        await until(lambda: "the settings stay as they were" in worker.messages(), limit=20)
        assert "reload: DISK_FLOOR: 'none'" in worker.messages()
        assert "reload: LOG_LEVEL: 'loud'" in worker.messages()
        assert (await stage.queue.job(job_id))["status"] == "pending"

        file.write(DISK_FLOOR="0", LOG_LEVEL="info", WORKER_ID="other")
        worker.signal(signal.SIGHUP)
        assert (await stage.ended(job_id))["status"] == "completed"
        assert "reloaded; changed: DISK_FLOOR, LOG_LEVEL" in worker.messages()
        assert "WORKER_ID: a change takes effect with a restart only" in worker.messages()
        assert "claiming again" in worker.messages()  # which is no warning
        assert worker.messages().count("less than DISK_FLOOR (1000 TiB)") == 2  # one a directory


async def test_a_mended_key_file_is_read_by_a_reload(tmp_path: Path) -> None:
    """Claims at once, not after the minute that a refused key waits; push is up as well."""
    key = tmp_path / "key"
    key.write_text("a-wrong-key-for-this", encoding="utf-8")
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        worker = await stage.worker(WORKER_KEY="", WORKER_KEY_FILE=str(key), POLL_INTERVAL="1h")
        await until(lambda: "Convex refuses to give work" in worker.messages(), limit=20)
        await until(lambda: "refused the subscription" in worker.messages(), limit=20)
        key.write_text(stage.keys.worker, encoding="utf-8")
        told = await control(worker, "POST", "/reload")
        assert told == {"applied": ["WORKER_KEY"], "needsRestart": [], "faults": []}
        await stage.push_is_up(worker)
        assert (await stage.ended(await stage.enqueue()))["status"] == "completed"
        assert await reasons(worker) == ""
        assert stage.keys.worker not in worker.messages()


async def test_a_new_credential_is_tested_and_used_after_a_reload(tmp_path: Path) -> None:
    """No test of the old one would come before a minute has passed."""
    key = tmp_path / "credential"
    key.write_text("an-old-credential", encoding="utf-8")
    async with on_stage(tmp_path, say("# Done\n", Status(code=401, times=1))) as stage:
        worker = await stage.worker(ANTHROPIC_API_KEY="", ANTHROPIC_API_KEY_FILE=str(key))
        job_id = await stage.enqueue()
        await until(lambda: "claiming nothing: credential refused" in worker.messages(), limit=30)
        key.write_text("a-new-credential", encoding="utf-8")
        told = await control(worker, "POST", "/reload")
        assert told["applied"] == ["ANTHROPIC_API_KEY"]
        await until(lambda: "the credential was tested and is taken" in worker.messages(), limit=40)
        # A clock that is moved past the wait moves on past the lease of whoever claims then.
        await stage.change_row("jobs", job_id, {"runAt": await stage.now()})
        assert (await stage.ended(job_id))["status"] == "completed"


async def test_slots_come_and_go_with_a_reload(tmp_path: Path) -> None:
    """More at once; fewer when they are idle, and no job is given up for it."""
    script = [
        when("slow", Script(turns=(Turn(text="# Done\n", delay=10),))),
        when("quick", Script(turns=(Turn(text="# Done\n", delay=2),))),
    ]
    async with on_stage(tmp_path, script) as stage:
        worker, file = await filed_worker(stage, {"MAX_CONCURRENT_JOBS": "1"})
        jobs = [await stage.enqueue("slow") for _ in range(2)]
        await until(lambda: stage.runs() == 1, limit=30)
        file.write(MAX_CONCURRENT_JOBS="2")
        assert (await control(worker, "POST", "/reload"))["applied"] == ["MAX_CONCURRENT_JOBS"]
        await until(lambda: stage.runs() == 2, limit=9)  # the first is still at it
        file.write(MAX_CONCURRENT_JOBS="1")
        await control(worker, "POST", "/reload")
        assert [(await stage.ended(job))["attempts"] for job in jobs] == [1, 1]

        jobs = [await stage.enqueue("quick") for _ in range(2)]
        for job in jobs:
            await stage.ended(job)
        attempts = [row for row in await stage.rows("attempts") if row["jobId"] in jobs]
        begun = sorted(row["startedAt"] for row in attempts)
        assert begun[1] - begun[0] > 2000  # one after the other


async def test_a_second_sigterm_gives_jobs_back_at_once(tmp_path: Path) -> None:
    """An operator in a hurry need not wait for the drain time."""
    async with on_stage(tmp_path, HANGS) as stage:
        worker = await stage.worker(DRAIN_TIME="10min")
        job_id = await stage.enqueue()
        await until(lambda: stage.runs() == 1, limit=30)
        worker.signal(signal.SIGTERM)
        await until(lambda: "1 jobs may run on for 600 s" in worker.messages(), limit=20)
        assert "stopping" in await reasons(worker)
        worker.signal(signal.SIGTERM)
        assert await worker.ended() == 0
        row = await stage.queue.job(job_id)
        assert (row["status"], row["attempts"]) == ("pending", 0)
        assert not running(str(tmp_path / "worker-1" / "work"))
