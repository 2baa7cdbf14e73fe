"""An operator always knows: every reason that /health can give, provoked for real."""

import asyncio
import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from devtools.stack import CLAUDE, WorkerProcess
from tests.fakes.messages_api import Script, Stall, Status, Turn, say
from tests.flow.stage import LOOK, SHORT_LEASE, Stage, on_stage
from tests.flow.test_gate import control
from tests.flow.test_reload import filed_worker
from tests.processes import until

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
HANGS = say("never", Stall(at="headers", times=None))


async def is_ready(stage: Stage, worker: WorkerProcess) -> tuple[bool, str]:
    """Return whether /readyz says so, and all that it tells."""
    page = await stage.page(worker, "/readyz?verbose")
    return page.status == 200, page.text


async def up(stage: Stage, **settings: str) -> WorkerProcess:
    """Start a worker, and wait until it answers and is well."""
    worker = await stage.worker(**settings)
    await until(lambda: "health: " in worker.messages(), limit=20)
    await stage.becomes(worker, "healthy")
    return worker


@pytest.mark.timeout(150)
async def test_a_deployment_that_is_gone_is_a_moments_trouble_first(tmp_path: Path) -> None:
    """Then it is one for a person; and it is over with the first answer.

    A job runs, so that the worker has something to ask for: an idle one that push wakes has not.
    """
    async with on_stage(tmp_path, HANGS) as stage:
        worker = await up(stage, HEARTBEAT_INTERVAL="1s")
        await stage.job_in(await stage.enqueue(), "analyzing")
        await stage.backend.kill()
        page = await stage.becomes(worker, "degraded", "no answer from Convex")
        assert page.status == 200
        assert (await is_ready(stage, worker))[0] is False
        assert (await stage.page(worker, "/livez")).status == 200
        page = await stage.becomes(worker, "unhealthy", "no answer from Convex", limit=90)
        assert page.status == 503
        assert json.loads(page.text)["convex"]["reachable"] is False
        await stage.backend.restart()
        assert (await stage.becomes(worker, "healthy", limit=40)).status == 200


async def test_a_disk_below_its_floor_is_unhealthy(tmp_path: Path) -> None:
    """The floor raised by a reload, and lowered again."""
    async with on_stage(tmp_path, say("never")) as stage:
        worker, file = await filed_worker(stage, {"DISK_FLOOR": "0"}, DISK_FLOOR="")
        await until(lambda: "health: " in worker.messages(), limit=20)
        await stage.becomes(worker, "healthy")
        file.write(DISK_FLOOR="1000TiB")
        worker.signal(signal.SIGHUP)
        assert (await stage.becomes(worker, "unhealthy", "less than DISK_FLOOR")).status == 503
        ready, told = await is_ready(stage, worker)
        assert (ready, told.count("DISK_FLOOR")) == (False, 2)
        file.write(DISK_FLOOR="0")
        worker.signal(signal.SIGHUP)
        await stage.becomes(worker, "healthy")


async def test_a_refused_credential_is_unhealthy(tmp_path: Path) -> None:
    """Nothing but a new one helps."""
    async with on_stage(tmp_path, say("never", Status(code=401, times=None))) as stage:
        worker = await up(stage)
        await stage.job_in(await stage.enqueue(), "pending", "analyzing")
        page = await stage.becomes(worker, "unhealthy", "credential refused")
        assert page.status == 503
        assert json.loads(page.text)["claude"]["credential"] == "refused"


async def test_a_process_that_stood_still_is_told(tmp_path: Path) -> None:
    """Stopped as a debugger would, or a host without a core to spare."""
    async with on_stage(tmp_path, say("never")) as stage:
        worker = await up(stage)
        worker.signal(signal.SIGSTOP)
        await asyncio.sleep(7)  # that is the fault, and not a wait for something
        worker.signal(signal.SIGCONT)
        page = await stage.becomes(worker, "degraded", "this process stood still for")
        assert page.status == 200
        assert await is_ready(stage, worker) == (True, "ready\n" + _also(page.text))


def _also(health: str) -> str:
    return "".join(f"also: {reason}\n" for reason in json.loads(health)["reasons"])


async def test_a_result_that_convex_does_not_take_grows_old(tmp_path: Path) -> None:
    """By the deployment's clock, which is the one that counts."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        worker = await up(stage, LEASE_TIME="10min", HEARTBEAT_INTERVAL="1s")
        await stage.fault(fault="conflict", path="queue:complete", times=100_000)
        job_id = await stage.enqueue()
        await until(lambda: "offering the result again" in worker.messages(), limit=30)
        await stage.move_clock(310)
        page = await stage.becomes(worker, "degraded", "1 finished results wait for Convex")
        assert json.loads(page.text)["outbox"]["waiting"] == 1
        await stage.mend()
        assert (await stage.ended(job_id))["status"] == "completed"


async def test_a_lease_that_is_not_renewed_is_told_before_it_is_lost(tmp_path: Path) -> None:
    """While there is still something to be done about it."""
    async with on_stage(tmp_path, HANGS) as stage:
        worker = await up(stage, LEASE_TIME="15s", HEARTBEAT_INTERVAL="1s")
        job_id = await stage.enqueue()
        await stage.job_in(job_id, "analyzing")
        await stage.fault(fault="conflict", path="queue:heartbeat", times=100_000)
        await stage.becomes(worker, "unhealthy", f"the lease of job {job_id} was not renewed")
        await stage.mend()
        await stage.becomes(worker, "healthy")
        assert (await stage.queue.job(job_id))["status"] == "analyzing"


async def test_a_cli_that_does_not_run_is_told_before_a_job_meets_it(tmp_path: Path) -> None:
    """And it is well again once another is set."""
    broken = tmp_path / "claude"
    broken.write_text("#!/bin/sh\necho it is broken >&2; exit 1\n")
    broken.chmod(0o755)
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        settings = {"CLAUDE_CLI": str(broken)}
        worker, file = await filed_worker(stage, settings, CLAUDE_CLI="")
        await until(lambda: "health: " in worker.messages(), limit=20)
        page = await stage.becomes(worker, "unhealthy", "it is broken")
        assert json.loads(page.text)["claude"]["version"] is None
        file.write(CLAUDE_CLI=str(CLAUDE))
        worker.signal(signal.SIGHUP)
        await stage.becomes(worker, "healthy")
        assert (await stage.health(worker))["claude"]["version"]


async def test_clocks_that_disagree_are_told(tmp_path: Path) -> None:
    """No job is harmed; times in logs are."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        worker = await up(stage)
        await stage.jump_clock(600)
        await stage.ended(await stage.enqueue())  # idle, it would learn of it within 5 minutes
        await stage.becomes(worker, "degraded", "clock and Convex's are 10 min apart")
        assert (await is_ready(stage, worker))[0] is True


async def test_a_pause_and_a_stop_are_degraded(tmp_path: Path) -> None:
    """They were wished for; a load balancer learns of both from /readyz."""
    async with on_stage(tmp_path, HANGS) as stage:
        worker = await up(stage, DRAIN_TIME="30s")
        await control(worker, "POST", "/pause", reason="new disks")
        page = await stage.becomes(worker, "degraded", "paused: new disks")
        assert json.loads(page.text)["paused"] == "new disks"
        assert await is_ready(stage, worker) == (False, "paused: new disks\n")
        await control(worker, "POST", "/resume")
        await stage.job_in(await stage.enqueue(), "analyzing")
        worker.signal(signal.SIGTERM)
        await stage.becomes(worker, "degraded", "stopping")
        assert (await is_ready(stage, worker))[0] is False
        worker.signal(signal.SIGTERM)
        assert await worker.ended() == 0


async def test_a_taken_port_is_told_on_the_control_socket(tmp_path: Path) -> None:
    """Where else."""
    async with on_stage(tmp_path, say("never")) as stage:
        first = await up(stage)
        (line,) = (one["message"] for one in first.lines() if "health: http" in one["message"])
        address = re.sub(r"health: http://(.*)/health", r"\1", line)
        second = await stage.worker(HEALTH_ADDRESS=address)
        await until(lambda: "control: " in second.messages(), limit=20)
        health = await control(second, "GET", "/health")
        assert health["status"] == "degraded"
        assert "no health port" in " ".join(health["reasons"])


async def test_health_tells_all_that_an_operator_asks_for(tmp_path: Path) -> None:
    """And the keys of the Node worker, as its probes read them."""
    script = Script(turns=(Turn(text="# Done\n", delay=3),))
    async with on_stage(tmp_path, script) as stage:
        worker = await up(stage, WORKER_ID="worker-7", MAX_CONCURRENT_JOBS="2", **SHORT_LEASE)
        while not (idle := await stage.health(worker))["claude"]["version"]:
            await asyncio.sleep(LOOK)  # a short run of the CLI tells it
        job_id = await stage.enqueue()
        await stage.job_in(job_id, "analyzing")
        busy = await stage.health(worker)
        (job,) = busy["jobs"]
        assert (job["id"], job["attempt"], job["status"]) == (job_id, 1, "analyzing")
        assert job["repository"] == stage.repository.url
        assert (job["currentStep"], job["totalSteps"]) == (2, 3)
        assert job["startedAt"] == pytest.approx(busy["lastJobTime"], abs=2000)
        assert 0 < job["leaseSlackSeconds"] <= 3
        assert busy["leaseSlackSeconds"] == job["leaseSlackSeconds"]
        assert (busy["activeJobs"], busy["maxConcurrentJobs"]) == (1, 2)
        assert busy["lastJobTime"] > idle["lastJobTime"]  # until then it is the start
        assert busy["memory"]["childrenRss"] > idle["memory"]["childrenRss"]
        assert busy["cpu"]["cores"] > 0
        assert busy["system"]["totalMemory"] > busy["system"]["freeMemory"] > 0
        assert (await stage.ended(job_id))["status"] == "completed"
        await figured(stage, worker, "jobs_succeeded_total", 1)
        await figured(stage, worker, "jobs_active", 0)
        ended = await stage.health(worker)
        assert ended["claude"]["credential"] == "accepted"
        assert ended["convex"]["lastSuccessSeconds"] < 10
        assert set(ended["disk"]["places"]) == {"TEMP_DIR", "STATE_DIR"}


async def figured(
    stage: Stage, worker: WorkerProcess, name: str, value: int, *, limit: float = 10
) -> dict[str, Any]:
    """Return the figures once one of them is so much: they are written after Convex knows."""
    deadline = time.monotonic() + limit
    while True:
        figures: dict[str, Any] = json.loads((await stage.page(worker, "/metrics")).text)
        if figures[name] == value:
            return figures
        assert time.monotonic() < deadline, f"waited {limit} s for {name} to be {value}: {figures}"
        await asyncio.sleep(LOOK)


async def test_metrics_speak_to_prometheus_and_to_curl(tmp_path: Path) -> None:
    """After a job that completed, and one that could not."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        worker = await up(stage)
        await stage.ended(await stage.enqueue())
        await stage.ended(await stage.enqueue(ref="no-such-branch"))
        figures = await figured(stage, worker, "jobs_failed_total", 1)
        assert (figures["jobs_total"], figures["jobs_succeeded_total"]) == (2, 1)
        assert figures["jobs_success_rate"] == 0.5
        assert figures["worker_max_concurrent_jobs"] == 1

        page = await stage.page(worker, "/metrics", accept=OPENMETRICS)
        assert page.kind.startswith("application/openmetrics-text; version=1.0.0")
        assert page.text.endswith("# EOF\n")
        page = await stage.page(worker, "/metrics?format=prometheus")
        assert page.kind.startswith("text/plain; version=0.0.4")
        for line in (
            'jobs_total{error_class="",outcome="completed"} 1.0',
            'jobs_total{error_class="ref_missing",outcome="dead"} 1.0',
            'results_total{outcome="accepted"} 1.0',
            'job_step_duration_seconds_count{step="analyzing"} 1.0',
            'lease_renewals_total{outcome="failed"} 0.0',
            "clone_size_bytes_count 1.0",
        ):
            assert f"fondation_worker_{line}" in page.text
        assert re.search(r'claude_cost_dollars_total\{model="[^"]+"\} 0\.\d+', page.text)
        assert (await stage.page(worker, "/metrics?format=json")).kind.startswith(
            "application/json"
        )
        assert (await stage.page(worker, "/metrics?format=xml")).status == 400


async def test_what_ended_is_remembered_over_a_restart(tmp_path: Path) -> None:
    """The file is this user's alone; the counters begin anew."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        state = str(tmp_path / "state")
        worker = await up(stage, STATE_DIR=state)
        job_id = await stage.enqueue()
        await stage.ended(job_id)
        await worker.stop()
        history = Path(state, "history.jsonl")
        assert json.loads(history.read_text())["jobId"] == job_id
        assert history.stat().st_mode & 0o777 == 0o600
        again = await up(stage, STATE_DIR=state)
        assert json.loads((await stage.page(again, "/metrics")).text)["jobs_total"] == 0
