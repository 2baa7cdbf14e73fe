"""Everything that a worker can export: names, labels, and the values of those labels."""

from collections import defaultdict
from functools import cache

from prometheus_client.parser import text_string_to_metric_families

from fondation_worker.metrics import CONVEX_OUTCOMES, Exposition, Metrics
from fondation_worker.result import Usage
from fondation_worker.snapshot import (
    ClaudeState,
    ConvexState,
    Disk,
    Family,
    Host,
    OutboxState,
    Running,
    Snapshot,
    TimeLimits,
)

RUNNING = Running(
    job_id="j1",
    attempt=1,
    repository="https://github.com/octocat/hello",
    step="analyzing",
    step_number=2,
    steps=3,
    progress="reading",
    started_at=1e9,
    age=60.0,
    silent=2.0,
    slack=240.0,
)
BUSY = Snapshot(
    worker_id="worker-1",
    instance="worker-1-0a1b2c3d",
    version="0.1.0",
    now=1e9,
    uptime=60.0,
    last_job_at=1e9,
    slots=2,
    limits=TimeLimits(lease=300.0, job=3600.0, silence=600.0),
    running=(RUNNING,),
    paused=None,
    convex=ConvexState(is_reachable=True, trouble=None, answered=1.0, push=True, skew=0.1),
    claude=ClaudeState(version="2.1.0", credential="accepted", paused=None, limit_resets_at=1e9),
    host=Host(
        load=(1.0, 1.0, 1.0),
        cores=2,
        memory=2**32,
        memory_free=2**31,
        disks=(
            Disk(setting="TEMP_DIR", path="/tmp/fondation", free=2**33),  # noqa: S108 the default
            Disk(setting="STATE_DIR", path="/var/lib/fondation-worker", free=2**33),
        ),
        disk_floor=2**31,
    ),
    family=Family(rss=1, anonymous=1, data=1, children=3, children_rss=1, cpu=1.0),
    outbox=OutboxState(waiting=0, oldest=None, unkept=0, refused=0, elsewhere=0),
    lateness=0.0,
    reasons=(),
)


def everything() -> Exposition:
    """Return what a busy worker exports that has seen all there is to see."""
    metrics = Metrics()
    metrics.cost(Usage(model="claude-sonnet-4-5", cost_usd=0.5, turns=3, input_tokens=10))
    for step in ("cloning", "analyzing", "gathering"):
        metrics.step_seconds.labels(step).observe(1)
    for outcome in CONVEX_OUTCOMES:
        metrics.calls.labels("queue:claim", outcome).observe(0.01)
    return Exposition(metrics, lambda: BUSY)


@cache
def exposed() -> dict[str, dict[str, set[str]]]:
    """Return every sample's name, with its labels and their values."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    text, _ = everything().render("text/plain")
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found[sample.name].update({})
            for label, value in sample.labels.items():
                found[sample.name][label].add(value)
    return found


def families() -> set[str]:
    """Return the names as they are asked for, one for each metric, without those of the process."""
    text, _ = everything().render("text/plain")
    names = {line.split()[2] for line in text.decode().splitlines() if line.startswith("# TYPE ")}
    return {name for name in names if name.startswith("fondation_worker_")}
