"""Each way for an attempt to fail, through the real git and the real CLI, to the job's row."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from devtools.stack import PLACEHOLDER
from tests.fakes.messages_api import Drop, Stall, Status, say
from tests.flow.stage import on_stage
from tests.processes import running, until
from tests.repositories import empty_repository


@pytest.mark.parametrize(
    ("job", "failure", "words"),
    [
        ({"cloneUrl": "file:///nowhere/at/all"}, "repository_missing", "no such repository"),
        ({"ref": "nowhere"}, "ref_missing", "no branch or tag 'nowhere'"),
        ({"ref": "gone;touch${IFS}x"}, "ref_missing", "gone;touch${IFS}x"),
        ({"commit": "0" * 40}, "ref_missing", "no commit 0000"),
        ({"subdirectory": "nowhere"}, "ref_missing", "no directory 'nowhere'"),
    ],
    ids=["missing", "ref", "shell food", "commit", "subdirectory"],
)
async def test_what_cannot_be_cloned_is_dead_at_once(
    tmp_path: Path, job: dict[str, Any], failure: str, words: str
) -> None:
    """With words that a product can show, and without a model being asked."""
    async with on_stage(tmp_path, say("never")) as stage:
        await stage.worker()
        row = await stage.ended(await stage.enqueue(**job))
        assert (row["status"], row["errorClass"]) == ("dead", failure)
        assert words in row["error"]
        assert stage.runs() == 0
    assert not list(tmp_path.rglob("x"))


@pytest.mark.parametrize(
    "fields",
    [
        {"ref": "a..b"},
        {"commit": "HEAD"},
        {"subdirectory": "../.."},
        {"cloneUrl": "ext::sh -c x"},
        {"model": "bad\0model"},
    ],
    ids=str,
)
async def test_a_row_that_enqueue_would_refuse_is_dead_at_once(
    tmp_path: Path, fields: dict[str, str]
) -> None:
    """An application may write rows itself; the worker checks what it gives to git."""
    async with on_stage(tmp_path, say("never")) as stage:
        job_id = await stage.enqueue()
        await stage.change_row("jobs", job_id, fields)
        await stage.worker()
        row = await stage.ended(job_id)
        assert (row["status"], row["errorClass"]) == ("dead", "invalid_job")
        assert next(iter(fields)) in row["error"]


async def test_an_empty_repository_is_dead_at_once(tmp_path: Path) -> None:
    """Until somebody pushes there is nothing to do."""
    async with on_stage(tmp_path, say("never")) as stage:
        empty = empty_repository(tmp_path / "empty")
        await stage.worker()
        row = await stage.ended(await stage.enqueue(cloneUrl=empty.url))
        assert (row["status"], row["errorClass"]) == ("dead", "repository_empty")


async def test_a_local_repository_without_leave_is_dead_at_once(tmp_path: Path) -> None:
    """A job must not read this host's disk."""
    async with on_stage(tmp_path, say("never")) as stage:
        await stage.worker(ALLOW_LOCAL_REPOSITORIES="0")
        row = await stage.ended(await stage.enqueue())
        assert (row["status"], row["errorClass"]) == ("dead", "invalid_job")
        assert "ALLOW_LOCAL_REPOSITORIES" in row["error"]


@pytest.mark.parametrize(
    ("status", "failure", "words"),
    [
        (401, "credential_refused", "credential refused: "),
        (429, "rate_limited", "waiting for "),
        (529, "overloaded", "waiting for "),
    ],
)
async def test_trouble_of_the_service_costs_no_attempt_and_stops_the_claims(
    tmp_path: Path, status: int, failure: str, words: str
) -> None:
    """The next job would meet the same; /health says why nothing is claimed."""
    async with on_stage(tmp_path, say("never", Status(code=status, times=None))) as stage:
        worker = await stage.worker(HEALTH_ADDRESS="127.0.0.1:0")
        job_id = await stage.enqueue()
        await until(lambda: "claiming nothing" in worker.messages(), limit=20)
        row = await stage.queue.job(job_id)
        assert (row["status"], row["attempts"], row["errorClass"]) == ("pending", 0, failure)
        assert row["runAt"] > row["updatedAt"] + 5000
        asked = len(stage.api.asked())
        await stage.enqueue()
        await asyncio.sleep(3)
        assert len(stage.api.asked()) == asked
        health = await stage.health(worker)
        assert health["status"] == ("unhealthy" if status == 401 else "degraded")
        assert words in " ".join(health["reasons"])


async def test_the_reset_of_a_rate_limit_is_waited_for(tmp_path: Path) -> None:
    """The service said when; the job comes back then, and not before."""
    limited = Status(code=429, reset_in=1800, times=None)
    async with on_stage(tmp_path, say("never", limited)) as stage:
        token = {"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": "placeholder-token"}
        worker = await stage.worker(**token)
        job_id = await stage.enqueue()
        await until(lambda: "claiming nothing" in worker.messages(), limit=20)
        row = await stage.queue.job(job_id)
        assert row["status"] == "pending"
        assert 1700 < (row["runAt"] - row["updatedAt"]) / 1000 < 1810


async def test_a_job_that_keeps_failing_is_dead_after_its_attempts(tmp_path: Path) -> None:
    """With the last reason on its row; the waits between are the protocol's."""
    async with on_stage(tmp_path, say("never", Status(code=500, times=None))) as stage:
        await stage.worker()
        job_id = await stage.enqueue(maxAttempts=2)
        row = await stage.job_in(job_id, "pending")
        while not row.get("lastError"):
            row = await stage.queue.job(job_id)
        assert row["attempts"] == 1
        row = await stage.ended(job_id)
        assert (row["status"], row["attempts"]) == ("dead", 2)
        assert row["errorClass"] == "claude_failed"
        assert "500" in row["error"]
        assert stage.runs() >= 2


async def test_a_secret_in_an_error_does_not_reach_the_row(tmp_path: Path) -> None:
    """A gateway may echo the key that it refuses; a product shows the row to its users."""
    echo = Status(code=400, message=f"unknown key {PLACEHOLDER}", times=None)
    async with on_stage(tmp_path, say("never", echo)) as stage:
        worker = await stage.worker()
        row = await stage.ended(await stage.enqueue(maxAttempts=1))
        assert "unknown key" in row["error"]
        assert PLACEHOLDER not in str(row)
        assert PLACEHOLDER not in worker.messages()


async def test_an_empty_answer_is_a_failure(tmp_path: Path) -> None:
    """The Node worker called it a success without documents."""
    async with on_stage(tmp_path, say("")) as stage:
        await stage.worker()
        row = await stage.ended(await stage.enqueue(maxAttempts=1))
        assert (row["status"], row["errorClass"]) == ("dead", "no_result")


@pytest.mark.parametrize("rules", ["job", "worker"])
async def test_a_stalled_run_ends_at_the_smaller_time_limit(tmp_path: Path, rules: str) -> None:
    """The job's own or the worker's; its processes are gone when the row says so."""
    async with on_stage(tmp_path, say("never", Stall(at="headers", times=None))) as stage:
        await stage.worker(JOB_TIMEOUT="3s" if rules == "worker" else "10min")
        job_id = await stage.enqueue(maxAttempts=1, timeoutMs=60_000)
        if rules == "job":  # the protocol's smallest is a minute; a row may hold less
            await stage.change_row("jobs", job_id, {"timeoutMs": 3000})
        row = await stage.ended(job_id)
        assert (row["status"], row["errorClass"]) == ("dead", "timeout")
        assert "longer than 3 s" in row["error"]
        assert not running(str(tmp_path / "worker-1" / "work"))


async def test_a_connection_that_keeps_dropping_is_another_attempt(tmp_path: Path) -> None:
    """The service's network: the CLI gives up, the worker does not."""
    script = say("# Done\n", Drop(at="start", times=3))
    async with on_stage(tmp_path, script) as stage:
        await stage.worker()
        row = await stage.ended(await stage.enqueue())
        assert (row["status"], row["attempts"]) == ("completed", 2)
        assert "error" not in row


FAULTY = """
from fondation_worker import claude
from fondation_worker.cli import main
order_for = claude.order_for
def faulty(setup, prompt, *rest):
    if "stumble" in prompt:
        raise KeyError("text that nobody chose to show")
    return order_for(setup, prompt, *rest)
claude.order_for = faulty
main(["run"])
"""


async def test_a_fault_of_our_own_is_told_without_its_text(tmp_path: Path) -> None:
    """The log has the traceback, the row says where to look, the worker goes on."""
    async with on_stage(tmp_path, say("# Done\n"), traceback=True) as stage:
        worker = await stage.worker((sys.executable, "-c", FAULTY))
        row = await stage.ended(await stage.enqueue("stumble", maxAttempts=1))
        assert (row["status"], row["errorClass"]) == ("dead", "internal")
        assert "its log has the details" in row["error"]
        assert "nobody chose" not in str(row)
        assert "Traceback" in worker.messages()
        assert (await stage.ended(await stage.enqueue()))["status"] == "completed"
