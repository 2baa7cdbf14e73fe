"""What keeps a worker from claiming, how it is said, and how it ends."""

import asyncio
import re
import sys
from pathlib import Path
from typing import Any

from devtools.stack import WorkerProcess
from fondation_worker.control_client import ask_control
from tests.fakes.messages_api import Script, Status, Turn, say, when
from tests.flow.stage import Stage, on_stage
from tests.flow.test_time import an_hour_off
from tests.processes import until

# The first test of a refused credential comes after a second, not after a minute.
QUICK = """
from fondation_worker import gate
from fondation_worker.cli import main
gate.FIRST_TEST = 1.0
main(["run"])
"""


async def control(worker: WorkerProcess, method: str, what: str, **body: str) -> dict[str, Any]:
    """Ask a worker over its control socket; return the answer."""
    path = worker.log.parent / "state" / "control.sock"
    await until(path.exists, limit=20, what="for the control socket")
    _, answer = await asyncio.to_thread(ask_control, path, method, what, body or None)
    return answer


async def reasons(worker: WorkerProcess) -> str:
    """Return what keeps a worker from its work, as its health says."""
    return " ".join((await control(worker, "GET", "/health"))["reasons"])


async def test_a_pause_is_kept_over_a_restart_and_running_jobs_go_on(tmp_path: Path) -> None:
    """Nothing is claimed until the resume, which needs no restart."""
    script = [
        when("slow", Script(turns=(Turn(text="# Done\n", delay=4),))),
        when("", say("# Done\n")),
    ]
    async with on_stage(tmp_path, script) as stage:
        first = await stage.worker()
        running = await stage.enqueue("slow")
        await until(lambda: stage.runs() == 1, limit=30)
        assert (await control(first, "POST", "/pause", reason="new disks"))["paused"]
        assert (await stage.ended(running))["status"] == "completed"
        held = await stage.enqueue("held")
        await until(lambda: "claiming nothing: paused: new disks" in first.messages(), limit=20)
        await first.stop()

        state = str(tmp_path / "worker-1" / "state")
        second = await stage.worker(STATE_DIR=state, CONTROL_SOCKET=f"{state}/control.sock")
        await until(lambda: "claiming nothing: paused: new disks" in second.messages(), limit=20)
        assert (await stage.health(second))["paused"] == "new disks"
        assert (await stage.queue.job(held))["status"] == "pending"
        assert not (await control(first, "POST", "/resume"))["paused"]  # the same socket
        assert (await stage.ended(held))["status"] == "completed"
        assert "claiming again" in second.messages()


async def test_a_job_claimed_while_the_pause_began_is_given_back(tmp_path: Path) -> None:
    """The claim was on its way; peers are known to run such a job all the same."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        worker = await stage.worker()
        await stage.push_is_up(worker)
        await stage.fault(fault="delayAfter", path="queue:claim", ms=3000)
        job_id = await stage.enqueue()
        await stage.job_in(job_id, "claimed")
        await control(worker, "POST", "/pause", reason="now")
        await until(lambda: "given back" in worker.messages(), limit=20)
        row = await stage.job_in(job_id, "pending")
        assert (row["attempts"], stage.runs()) == (0, 0)
        await control(worker, "POST", "/resume")
        assert (await stage.ended(job_id))["status"] == "completed"


async def test_a_refused_credential_is_tested_without_a_job_until_it_is_taken(
    tmp_path: Path,
) -> None:
    """The job comes back unspent; the worker's own request finds out, then it claims again."""
    script = [
        when("look", say("# Done\n", Status(code=401, times=1))),
        when("", say("yes", Status(code=401, times=2))),
    ]
    async with on_stage(tmp_path, script) as stage:
        worker = await stage.worker((sys.executable, "-c", QUICK))
        job_id = await stage.enqueue()
        await until(lambda: "claiming nothing: credential refused" in worker.messages(), limit=30)
        row = await stage.job_in(job_id, "pending")
        assert (row["attempts"], row["errorClass"]) == (0, "credential_refused")
        # A clock that is moved past the wait moves on past the lease of whoever claims then.
        await stage.change_row("jobs", job_id, {"runAt": await stage.now()})
        await until(lambda: "tested and is still refused" in worker.messages(), limit=30)
        assert stage.runs("look") == 1
        assert (await stage.ended(job_id, limit=60))["status"] == "completed"
        assert "the credential was tested and is taken" in worker.messages()
        assert stage.runs("look") == 2


async def test_after_the_reset_of_a_rate_limit_the_worker_claims_again(tmp_path: Path) -> None:
    """By itself, and the attempt was not spent."""
    limited = Status(code=429, reset_in=5, times=1)
    async with on_stage(tmp_path, say("# Done\n", limited)) as stage:
        token = {"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": "placeholder-token"}
        worker = await stage.worker(**token)
        job_id = await stage.enqueue()
        await until(lambda: "claiming nothing: waiting for" in worker.messages(), limit=40)
        assert "rate limit is used up" in await reasons(worker)
        row = await stage.queue.job(job_id)
        assert (row["status"], row["errorClass"]) == ("pending", "rate_limited")
        row = await stage.ended(job_id, limit=60)
        assert (row["status"], row["attempts"]) == ("completed", 1)
        assert await reasons(worker) == ""


async def test_the_skew_of_the_clocks_is_shown_and_said_once(tmp_path: Path) -> None:
    """Convex's clock rules; ours is wrong by an hour."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        worker = await stage.worker(**an_hour_off())
        for _ in range(2):
            assert (await stage.ended(await stage.enqueue()))["status"] == "completed"
        assert -3660 < (await stage.health(worker))["convex"]["skewSeconds"] < -3540
        said = re.findall(r"clock and Convex's are (\d+) s apart", worker.messages())
        assert [round(int(seconds), -2) for seconds in said] == [3600]


async def test_operators_are_told_of_the_worker_and_of_its_states(tmp_path: Path) -> None:
    """Through Convex: what it does, why it does not, and that it has stopped."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        worker = await stage.worker(WORKER_ID="w-7", MAX_CONCURRENT_JOBS="2")
        assert (await told(stage, "idle"))["slots"] == 2
        await control(worker, "POST", "/pause", reason="new disks")
        await told(stage, "paused: new disks")
        await worker.stop()
        row = await told(stage, "stopped")
        assert (row["workerId"], row["busy"]) == ("w-7", 0)


async def told(stage: Stage, state: str) -> dict[str, Any]:
    """Return the one worker's row once it is in *state*."""
    async with asyncio.timeout(30):
        while True:
            rows = await stage.queue.workers()
            if [row["state"] for row in rows] == [state]:
                return rows[0]
            await asyncio.sleep(0.1)
