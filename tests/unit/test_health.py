"""What /health and /metrics say of a snapshot: documented, and what old probes read."""

import re
from pathlib import Path
from typing import Any

import pytest

from fondation_worker.admission import Level, Reason
from fondation_worker.history import History, Past
from fondation_worker.web.figures import figures, is_scrape
from fondation_worker.web.health import health
from tests.snapshots import JOB, NOW, worker

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
METRICS = Path(__file__).parents[2] / "docs" / "metrics.md"
# Of the Node worker: what a probe that is older than this program may read.
OF_NODE = {
    *("status", "workerId", "uptime", "lastJobTime", "activeJobs", "maxConcurrentJobs"),
    *("memory.rss", "memory.heapTotal", "memory.heapUsed", "memory.external", "memory.percentUsed"),
    *("cpu.loadAverage", "cpu.cores"),
    *("system.platform", "system.arch", "system.totalMemory", "system.freeMemory"),
}
FIGURES_OF_NODE = {
    *("jobs_total", "jobs_succeeded_total", "jobs_failed_total", "jobs_active"),
    *("jobs_duration_average_ms", "jobs_success_rate", "jobs_failure_rate"),
    *("process_uptime_seconds", "process_memory_heap_used_bytes"),
    *("process_memory_heap_total_bytes", "process_memory_rss_bytes"),
    *("worker_id", "worker_start_time", "worker_max_concurrent_jobs", "timestamp"),
}


def paths(document: Any, above: str = "") -> set[str]:
    """Return the names of everything in a document, with dots between."""
    found = set()
    for name, value in document.items():
        inner = value[0] if isinstance(value, list) and value else value
        if isinstance(inner, dict):
            found |= paths(inner, f"{above}{name}.")
        else:
            found.add(f"{above}{name}")
    return found


def test_every_key_is_documented_and_no_other() -> None:
    """A name in the table is written as in the answer."""
    table = OPERATIONS.read_text(encoding="utf-8").split("What the document holds", 1)[1]
    rows = re.findall(r"^\| (.*?) \| (.*?) \|$", table.split("\n\n")[1], re.MULTILINE)[1:]
    documented = set()
    for keys, words in rows:
        names = re.findall(r"`(\w+)(?:\[\])?`", keys)
        inner = re.findall(r"`([a-z]\w+)`", words)
        answer = health(worker(running=(JOB,)))
        for name in names:
            value = answer[name]
            is_one = isinstance(value, dict | list) and name != "reasons"
            documented |= {f"{name}.{key}" for key in inner} if is_one else {name}
    told = {re.sub(r"places\.\w+\.", "", path) for path in paths(health(worker(running=(JOB,))))}
    values = {"claude.untested", "claude.accepted", "claude.refused", "disk.places"}
    assert documented - values == told


def test_what_old_probes_read_is_there() -> None:
    """With the units that they know."""
    told = health(worker(last_job_at=NOW - 5))
    assert paths(told) >= OF_NODE
    assert told["lastJobTime"] == (NOW - 5) * 1000
    assert health(worker())["lastJobTime"] == round((NOW - 90.5) * 1000)
    assert isinstance(told["activeJobs"], int)
    assert told["memory"]["percentUsed"] == 25.0


@pytest.mark.parametrize(
    ("levels", "status"),
    [
        ((), "healthy"),
        ((Level.DEGRADED,), "degraded"),
        ((Level.DEGRADED, Level.UNHEALTHY, Level.DEGRADED), "unhealthy"),
    ],
)
def test_a_worker_is_as_bad_as_its_worst_reason(levels: tuple[Level, ...], status: str) -> None:
    """And ready as long as none of them is in the way."""
    reasons = tuple(Reason(key="k", words="w", level=level, blocks=False) for level in levels)
    told = health(worker(reasons=reasons))
    assert (told["status"], told["ready"], len(told["reasons"])) == (status, True, len(levels))
    blocked = health(worker(reasons=(*reasons, Reason(key="k", words="w", blocks=True))))
    assert blocked["ready"] is False


def past(outcome: str, error_class: str | None = None, seconds: float = 2.0) -> Past:
    """Return an attempt that ended."""
    return Past(
        ended_at=NOW, job_id="j", attempt=1, repository="r", outcome=outcome,
        error_class=error_class, seconds=seconds,
    )  # fmt: skip


def test_the_figures_for_curl_are_those_of_the_node_worker() -> None:
    """Each is in the document, too."""
    history = History()
    for ended in (past("completed"), past("completed", seconds=4.0), past("dead", "timeout")):
        history.begin()
        history.add(ended)
    told = figures(worker(running=(JOB,)), history)
    assert set(told) == FIGURES_OF_NODE
    text = METRICS.read_text(encoding="utf-8").split("## JSON for a plain curl")[1]
    assert set(re.findall(r"`(\w+)`", text)) == FIGURES_OF_NODE
    assert (told["jobs_total"], told["jobs_active"]) == (3, 1)
    assert told["jobs_duration_average_ms"] == 3000
    assert told["jobs_success_rate"] == pytest.approx(2 / 3)
    assert told["jobs_success_rate"] + told["jobs_failure_rate"] == 1
    assert told["worker_start_time"] == round((NOW - 90.5) * 1000)


def test_before_the_first_job_the_rates_are_those_of_a_worker_without_failures() -> None:
    """As they were."""
    told = figures(worker(), History())
    assert (told["jobs_success_rate"], told["jobs_failure_rate"]) == (1, 0)
    assert told["jobs_duration_average_ms"] == 0


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", False),
        ("*/*", False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        ("application/json", False),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", True),
        ("application/openmetrics-text;version=1.0.0,*/*;q=0.1", True),
        ("APPLICATION/OpenMetrics-Text", True),
        ("text/plain", True),
        (";;;,,,", False),
    ],
)
def test_prometheus_is_known_by_what_it_reads(accept: str, *, expected: bool) -> None:
    """Whoever says nothing is a person with curl."""
    assert is_scrape(accept) is expected
