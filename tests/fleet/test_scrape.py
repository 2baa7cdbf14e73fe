"""A real Prometheus and a real worker: what is scraped, asked and judged."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from devtools.dashboards import BOARDS, PLACE
from devtools.stack import WorkerProcess
from tests.fakes.messages_api import Stall, say
from tests.fleet.exposed import exposed
from tests.fleet.prometheus import RULES, Prometheus, example, prometheus
from tests.fleet.test_rules import BODIES, promtool
from tests.flow.stage import Stage, on_stage
from tests.flow.test_gate import control
from tests.processes import running, until

FIRST, SECOND = "127.0.0.1:8080", "127.0.0.2:8080"  # the targets of the example
ITS = {"$job": "fondation-worker", "$instance": ".+", "$step": ".+"}
TIMES = {"$__rate_interval": "1m", "$__range": "1h"}
TEXT = "text/plain;version=0.0.4"
# What has nothing to show on a day without trouble, and while no job runs.
QUIET = {"Alerts", "Lease slack", "The limit is renewed in"}
# What Prometheus 3 sends.
OF_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


async def address(worker: WorkerProcess) -> str:
    """Return where the worker answers, once it does."""
    mark = "health: http://"
    await until(lambda: any(mark in line["message"] for line in worker.lines()))
    (line,) = (line["message"] for line in worker.lines() if mark in line["message"])
    return str(line).removeprefix(mark).removesuffix("/health")


@asynccontextmanager
async def only_text(stage: Stage, worker: WorkerProcess) -> AsyncIterator[str]:
    """Serve the same as *worker*, to whoever wants what: the older text. Give where."""

    async def answer(_: web.Request) -> web.Response:
        page = await stage.page(worker, "/metrics", accept=TEXT)
        return web.Response(body=page.text.encode(), headers={"Content-Type": page.kind})

    application = web.Application()
    application.router.add_get("/metrics", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        (found,) = runner.addresses
        yield f"{found[0]}:{found[1]}"
    finally:
        await runner.cleanup()


async def two_jobs(stage: Stage) -> None:
    """Let one job be completed, and one be dead."""
    done = await stage.enqueue()
    lost = await stage.enqueue(cloneUrl=f"file://{stage.home}/nothing")
    assert (await stage.ended(done))["status"] == "completed"
    assert (await stage.ended(lost))["status"] == "dead"


def sampled(text: str) -> set[str]:
    """Return the names of all samples of ours in *text*."""
    lines = (line for line in text.splitlines() if line.startswith("fondation_worker_"))
    return {re.split(r"[{ ]", line)[0] for line in lines}


def filled(query: str) -> str:
    """Return *query* as Grafana sends it."""
    for name, value in (ITS | TIMES).items():
        query = query.replace(name, value)
    assert "$" not in query.replace('"$1"', ""), query
    return query


def asked(name: str) -> list[tuple[str, str]]:
    """Return every query of a dashboard, with its panel's title."""
    document: dict[str, Any] = json.loads((PLACE / name).read_text(encoding="utf-8"))
    return [
        (panel["title"], filled(target["expr"]))
        for panel in document["panels"]
        for target in panel.get("targets", ())
    ]


@pytest.mark.timeout(120)
async def test_what_a_worker_did_is_seen(tmp_path: Path) -> None:
    """By the example configuration, in both formats; every panel has an answer."""
    async with on_stage(tmp_path / "stage", say("# Done\n")) as stage:
        worker = await stage.worker(DISK_FLOOR="1MiB")
        where = await address(worker)
        async with (
            only_text(stage, worker) as relay,
            prometheus(tmp_path / "prometheus", example({FIRST: where, SECOND: relay})) as there,
        ):
            await there.until("sum(fondation_worker_attempts_total)", 0)
            await two_jobs(stage)
            completed = 'sum(fondation_worker_jobs_total{outcome="completed"})'
            await there.until(completed, 2)
            await there.until(f"min_over_time({completed}[2s:1s])", 2)
            await both_were_scraped(there)
            await figures_are_right(there)
            for name in BOARDS:
                await panels_have_answers(there, name)
            await rules_are_evaluated(there)
        page = await stage.page(worker, "/metrics", accept=TEXT)
    assert promtool("check", "metrics", given=page.text) == ""
    assert sampled(page.text) <= set(exposed())
    assert running(str(tmp_path / "prometheus")) == []


async def both_were_scraped(there: Prometheus) -> None:
    """Neither format was refused, none of its lines was dropped."""
    assert await there.value("count(up == 1)") == 2
    (count,) = {row["value"][1] for row in await there.ask("scrape_samples_scraped")}
    assert int(count) > 300
    targets = (await there.get("targets"))["activeTargets"]
    assert [target["lastError"] for target in targets] == ["", ""]


async def figures_are_right(there: Prometheus) -> None:
    """Of one worker that is seen twice: each figure is that of one completed and one dead job."""
    for query, value in {
        'min(fondation_worker_jobs_total{outcome="completed"})': 1,
        'min(fondation_worker_jobs_total{outcome="dead",error_class="repository_missing"})': 1,
        "sum(fondation_worker_jobs_total)": 4,
        "min(fondation_worker_attempts_total)": 2,
        "min(fondation_worker_active_jobs)": 0,
        'min(fondation_worker_results_total{outcome="accepted"})': 1,
        "min(fondation_worker_claude_run_cost_dollars_count)": 1,
        "min(fondation_worker_job_timeout_seconds)": 3600,
    }.items():
        assert await there.value(query) == value, query
    dollars = "min(increase(fondation_worker_claude_run_cost_dollars_sum[1h]))"
    assert (await there.value(dollars) or 0) > 0


async def panels_have_answers(there: Prometheus, name: str) -> None:
    """Every query runs; all but those of the quiet ones return series."""
    empty = {title for title, query in asked(name) if not await there.ask(query)}
    assert empty <= QUIET, empty


async def rules_are_evaluated(there: Prometheus) -> None:
    """Each was, without an error; and nobody would be woken."""
    rules = await there.rules()
    assert {rule["name"] for rule in rules} == set(BODIES)
    assert {(rule["health"], rule.get("lastError", "")) for rule in rules} == {("ok", "")}
    alerts = (await there.get("alerts"))["alerts"]
    assert [alert for alert in alerts if alert["labels"]["severity"] == "page"] == []


async def test_a_worker_that_is_gone_is_down_at_once(tmp_path: Path) -> None:
    """The alert is pending within two scrapes; only its five minutes are left."""
    configuration = example({FIRST: "127.0.0.1:1", SECOND: "127.0.0.1:2"})
    async with prometheus(tmp_path / "prometheus", configuration) as there:
        await there.until('count(ALERTS{alertname="FondationWorkerDown"})', 2)
        await there.until('count(ALERTS{alertname="FondationNoWorker"})', 1)
        (state,) = {row["metric"]["alertstate"] for row in await there.ask("ALERTS")}
    assert state == "pending"


async def pending(there: Prometheus) -> set[str]:
    """Return the alerts that would fire if it stayed so."""
    return {row["metric"]["alertname"] for row in await there.ask("ALERTS")}


@pytest.mark.timeout(120)
async def test_a_pause_is_no_trouble_and_an_outage_is(tmp_path: Path) -> None:
    """A worker that was told to rest says so; one without Convex is about to lose its job."""
    async with on_stage(tmp_path / "stage", say("never", Stall(at="headers", times=None))) as stage:
        worker = await stage.worker(LEASE_TIME="10s", HEARTBEAT_INTERVAL="1s")
        where = await address(worker)
        configuration = example({FIRST: where, SECOND: where})
        async with prometheus(tmp_path / "prometheus", configuration) as there:
            await stage.job_in(await stage.enqueue(), "analyzing")
            await there.until("min(fondation_worker_lease_slack_seconds > bool 3.3)", 1)
            assert await there.ask(filled(dict(asked("fleet.json"))["Lease slack"]))
            await control(worker, "POST", "/pause", reason="a test")
            await there.until('count(ALERTS{alertname="FondationWorkerPaused"})', 1)
            trouble = {"FondationWorkerUnhealthy", "FondationNothingClaimed"}
            assert not trouble & await pending(there)
            await stage.backend.kill()
            await there.until('count(ALERTS{alertname="FondationLeaseSlackLow"})', 1)
            assert "FondationConvexUnreachable" in await pending(there)
            await stage.backend.restart()
            await there.until(
                'count(ALERTS{alertname="FondationConvexUnreachable"}) or vector(0)', 0
            )


async def test_prometheus_3_gets_what_it_asks_for(tmp_path: Path) -> None:
    """It refuses an answer without a content type that it knows."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        worker = await stage.worker()
        await address(worker)
        page = await stage.page(worker, "/metrics", accept=OF_3)
    assert page.kind.startswith("application/openmetrics-text; version=1.0.0")
    assert page.text.endswith("# EOF\n")


def test_the_rules_lie_where_the_example_names_them() -> None:
    """Beside it, in the repository and in the package."""
    assert f"- {RULES.name}" in example({})
