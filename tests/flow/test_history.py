"""What the port tells of attempts that ended: all that an operator needs, nothing of the inside."""

import json
import os
import signal
from pathlib import Path

from tests.edges.test_disk import small_disk, spoil
from tests.fakes.messages_api import Stall, Status, say
from tests.flow.stage import on_stage
from tests.processes import until

HANGS = say("never", Stall(at="headers", times=None))


def remembered(state: Path) -> list[dict[str, object]]:
    """Return what a worker has written down."""
    return [json.loads(line) for line in (state / "history.jsonl").read_text().splitlines()]


async def test_what_a_model_said_in_a_failure_is_on_no_page(tmp_path: Path) -> None:
    """The product's users read it in the row; who reaches the port does not."""
    secret = "words-of-the-repository"
    refusal = Status(code=400, times=None, message=secret)
    async with on_stage(tmp_path, say("never", refusal)) as stage:
        worker = await stage.worker()
        await until(lambda: "health: " in worker.messages(), limit=20)
        job_id = await stage.enqueue(maxAttempts=1)
        row = await stage.ended(job_id)
        assert (row["status"], row["errorClass"]) == ("dead", "claude_failed")
        assert secret in row["error"]
        await until((tmp_path / "worker-1" / "state" / "history.jsonl").exists)
        (past,) = remembered(tmp_path / "worker-1" / "state")
        assert (past["errorClass"], past["outcome"]) == ("claude_failed", "dead")
        for path in ("/", "/health", "/metrics", "/metrics?format=prometheus", "/readyz?verbose"):
            page = await stage.page(worker, path)
            assert page.status == 200
            assert secret not in page.text
        assert job_id in (await stage.page(worker, "/")).text


async def test_a_crash_is_told_by_the_start_that_reports_it(tmp_path: Path) -> None:
    """It is counted, and stands on the page of the next life."""
    async with on_stage(tmp_path, HANGS, directories_left=True) as stage:
        state = tmp_path / "state"
        places = {"STATE_DIR": str(state), "TEMP_DIR": str(tmp_path / "work")}
        first = await stage.worker(**places)
        job_id = await stage.enqueue()
        await stage.job_in(job_id, "analyzing")
        first.signal(signal.SIGKILL)
        await first.ended()
        second = await stage.worker(**places)
        await until(lambda: "its last attempt crashed; reported" in second.messages(), limit=30)
        (past,) = remembered(state)
        assert (past["jobId"], past["attempt"], past["errorClass"]) == (job_id, 1, "crash")
        assert abs(float(str(past["endedAt"])) - await stage.now() / 1000) < 3600
        page = await stage.page(second, "/metrics?format=prometheus")
        assert 'jobs_total{error_class="crash",outcome="pending"} 1.0' in page.text
        await stage.queue.cancel(job_id)
        await stage.ended(job_id)


async def test_a_stop_after_the_end_of_an_attempt_does_not_change_it(tmp_path: Path) -> None:
    """While its log's last lines waited, the result that Convex has was said to be lost."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        worker = await stage.worker()
        await stage.fault(fault="delayBefore", path="queue:appendLogs", ms=30_000, times=100)
        await stage.ended(await stage.enqueue())
        await until(lambda: "completed: job" in worker.messages())
        for _ in range(2):
            worker.signal(signal.SIGTERM)
        await worker.ended()
        (past,) = remembered(tmp_path / "worker-1" / "state")
        assert past["outcome"] == "completed"
        assert "and lost" not in worker.messages()


async def test_a_result_that_a_stop_lost_was_not_given_back(tmp_path: Path) -> None:
    """The disk had refused it, and Convex too: it is gone, and its job is not."""
    with small_disk(tmp_path / "disk") as disk:
        spoil(disk, "full")
        (disk / "filler").rename(disk / "filler-1")
        os.truncate(disk / "filler-1", 128 * 1024)
        async with on_stage(tmp_path, say("# Done\n" + "x" * 500_000)) as stage:
            places = {"STATE_DIR": str(disk), "CONTROL_SOCKET": str(tmp_path / "control.sock")}
            worker = await stage.worker(**places)
            await stage.fault(fault="conflict", path="queue:complete", times=100_000)
            job_id = await stage.enqueue()
            await until(lambda: "in memory only" in worker.messages(), limit=30)
            await stage.job_in(job_id, "gathering")
            for _ in range(2):
                worker.signal(signal.SIGTERM)
                await until(lambda: "stopping" in worker.messages())
            await worker.ended()
            assert "it is not on disk, and lost" in worker.messages()
            (past,) = remembered(disk)
            assert past["outcome"] == "lost"
            await stage.queue.cancel(job_id)
            await stage.ended(job_id)
