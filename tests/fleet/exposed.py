"""Everything that a worker can export: names, labels, and the values of those labels."""

from collections import defaultdict
from dataclasses import replace
from functools import cache

from prometheus_client.parser import text_string_to_metric_families

from fondation_worker.exposition import Exposition
from fondation_worker.metrics import CONVEX_OUTCOMES, Metrics
from fondation_worker.result import Share, Usage
from tests.snapshots import JOB, WELL, worker

BUSY = worker(running=(JOB,), claude=replace(WELL.claude, limit_resets_at=1e9))
STEPS = ("cloning", "analyzing", "gathering")


def everything() -> Exposition:
    """Return what a busy worker exports that has seen all there is to see."""
    metrics = Metrics()
    metrics.cost(Usage(cost_usd=0.5, turns=3), [Share(model="claude-sonnet-4-5", cost_usd=0.5)])
    for step in STEPS:
        with metrics.step(step):
            pass
    for outcome in CONVEX_OUTCOMES:
        metrics.called("queue:claim", outcome, 0.01)
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
