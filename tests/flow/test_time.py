"""Jobs that are due later, and clocks that lie."""

import asyncio
import statistics
import time
from pathlib import Path

from tests.fakes.messages_api import say
from tests.flow.stage import SHORT_LEASE, on_stage
from tests.processes import until
from tests.repositories import git_server, repository


def an_hour_off() -> dict[str, str]:
    """Return the environment of a process whose wall clock is an hour ahead, and that alone."""
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME": "+1h",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_CACHE_DURATION": "3600",  # s; else read again after 10, when a worker dropped it
    }


async def test_a_job_starts_at_its_time_by_push(tmp_path: Path) -> None:
    """Three seconds ahead, no poll to help, no other commit, and a wall clock that is wrong.

    The median of three: a busy machine may be late once.
    """
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        worker = await stage.worker(POLL_INTERVAL="1h", **an_hour_off())
        await until(lambda: "starts as" in worker.messages())
        await stage.push_is_up(worker)
        late = {}
        for _ in range(3):
            due = await stage.now() + 3000
            job_id = await stage.enqueue(runAt=due)
            assert (await stage.ended(job_id))["status"] == "completed"
            (attempt,) = (row for row in await stage.rows("attempts") if row["jobId"] == job_id)
            late[job_id] = (attempt["startedAt"] - due) / 1000
        assert min(late.values()) >= 0
        assert statistics.median(late.values()) < 0.3
        first_line = worker.lines()[0]["time"]
        ahead = time.time() + 1800
        assert first_line > time.strftime("%Y-%m-%dT%H:%M", time.gmtime(ahead))  # it did lie


async def test_a_job_put_in_while_everybody_waits_starts_at_once_by_push(tmp_path: Path) -> None:
    """The poll is an hour away."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        worker = await stage.worker(POLL_INTERVAL="1h")
        await stage.push_is_up(worker)
        begun = await stage.now()
        job_id = await stage.enqueue()
        await stage.ended(job_id)
        (attempt,) = await stage.rows("attempts")
        assert (attempt["startedAt"] - begun) / 1000 < 0.5


async def test_a_more_urgent_job_goes_first(tmp_path: Path) -> None:
    """Priority before age, and what is not due is not taken."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        later = await stage.enqueue("later", priority=10, runAt=await stage.now() + 600_000)
        old = await stage.enqueue("old")
        urgent = await stage.enqueue("urgent", priority=5)
        await stage.worker()
        await stage.ended(old)
        assert [request.prompt.strip() for request in stage.api.asked()] == ["urgent", "old"]
        assert (await stage.queue.job(urgent))["status"] == "completed"
        assert (await stage.queue.job(later))["status"] == "pending"


async def test_a_waiting_job_needs_no_poll_after_a_failure(tmp_path: Path) -> None:
    """The worker keeps its own time for the next due job, push or not."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        worker = await stage.worker(POLL_INTERVAL="1h")
        await stage.push_is_up(worker)
        job_id = await stage.enqueue(runAt=await stage.now() + 1500)
        await stage.drop_sockets()
        job = await stage.ended(job_id, limit=15)
        assert job["status"] == "completed"


async def test_a_clone_longer_than_the_lease_keeps_it(tmp_path: Path) -> None:
    """Heartbeats go on while git waits for a slow server: nobody else gets the job."""
    top, slow = tmp_path / "served", asyncio.Event()
    top.mkdir()
    repository(top / "slow")
    async with (
        git_server(top, tmp_path / "keys", stall=slow) as server,
        on_stage(tmp_path / "stage", say("# Done\n")) as stage,
    ):
        for _ in range(2):
            await stage.worker(**SHORT_LEASE, GIT_SSL_CAINFO=str(server.certificate))
        job_id = await stage.enqueue(runAt=await stage.now() + 3_600_000)
        url = f"{server.url}/slow/.git"  # a port, which `enqueue` does not take
        await stage.change_row("jobs", job_id, {"cloneUrl": url, "runAt": await stage.now()})
        first = await stage.job_in(job_id, "cloning")
        until_then = first["leaseUntil"] + 3_000  # a lease after the first one's end
        while (job := await stage.queue.job(job_id))["leaseUntil"] < until_then:
            assert (job["status"], job["attempt"]) == ("cloning", 1)
            await asyncio.sleep(0.1)
        slow.set()
        job = await stage.ended(job_id)
        assert (job["status"], job["attempt"], job["attempts"]) == ("completed", 1, 1)
        assert stage.runs() == 1
