"""What Prometheus is answered: the counters, and how the worker is at that moment."""

import platform
import re
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from fondation_worker.admission import Level
from fondation_worker.metrics import HOLDS, PREFIX, Metrics, pause_of
from fondation_worker.snapshot import Look, Snapshot

# What is understood of an `Accept`: the library fails over any version that has a letter in it.
_OFFER = re.compile(
    r"\s*[\w*.+-]+/[\w*.+-]+"
    r"(\s*;\s*(version=\d{1,3}\.\d{1,3}\.\d{1,3}|escaping=[a-z0-9-]+|charset=[\w-]+|q=[0-9.]+))*\s*",
    re.ASCII | re.IGNORECASE,
)


class States(Collector):
    """What a snapshot says, as gauges: read anew for each scrape."""

    def __init__(self, look: Look) -> None:
        self._look = look

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the registry need not look for names before there is a worker."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges."""
        now = self._look()
        yield from _of_worker(now)
        yield from _of_jobs(now)
        yield from _of_convex(now)
        yield from _of_claude(now)
        yield from _of_outbox(now)
        yield from _of_host(now)


def _of_worker(now: Snapshot) -> Iterator[Metric]:
    build = {"version": now.version, "python": platform.python_version()}
    yield _info("build", "The program.", build)
    yield _info("worker", "The worker's label.", {"worker_id": now.worker_id})
    yield _gauge("healthy", "1 unless /health says unhealthy.", now.level < Level.UNHEALTHY)
    yield _gauge("ready", "1 while it would take a job.", not now.in_the_way)
    held = {pause_of(reason.key) for reason in now.in_the_way}
    yield _gauges(
        "paused",
        "1 while this keeps the worker from claiming.",
        "reason",
        {reason: reason in held for reason in HOLDS},
    )


def _of_jobs(now: Snapshot) -> Iterator[Metric]:
    yield _gauge("slots", "Jobs that may run at once.", now.slots)
    yield _gauge("active_jobs", "Jobs that run.", len(now.running))
    oldest = max((job.age for job in now.running), default=0.0)
    yield _gauge("job_age_seconds", "How long the oldest job runs; 0 for none.", oldest)
    silent = max((job.silent or 0.0 for job in now.running), default=0.0)
    words = "How long the quietest run of Claude gave no sign of life; 0 for none."
    yield _gauge("claude_silent_seconds", words, silent)
    words = "The least time before a job would be cancelled; missing while none runs."
    yield _gauge("lease_slack_seconds", words, now.slack)
    yield _gauge("lease_time_seconds", "LEASE_TIME: what a renewal gives.", now.lease_time)
    yield _gauge("job_timeout_seconds", "JOB_TIMEOUT: what an attempt may take.", now.job_timeout)
    words = "STALL_TIME: how long a run may be silent while no tool runs."
    yield _gauge("stall_time_seconds", words, now.stall_time)


def _of_convex(now: Snapshot) -> Iterator[Metric]:
    convex = now.convex
    yield _gauge("push_up", "1 while Convex wakes this worker; 0: it polls.", convex.push)
    yield _gauge("convex_reachable", "1 unless the last call had no answer.", convex.is_reachable)
    words = "How long ago Convex last did what it was asked for; missing before the first time."
    yield _gauge("convex_answer_age_seconds", words, convex.answered)
    words = "How far Convex's clock is ahead of this host's; missing before the first answer."
    yield _gauge("convex_clock_skew_seconds", words, convex.skew)


def _of_claude(now: Snapshot) -> Iterator[Metric]:
    claude = now.claude
    yield _info("claude", "The Claude CLI.", {"version": claude.version or "unknown"})
    words = "1 while the model's service refuses the credential."
    yield _gauge("claude_credential_refused", words, claude.credential == "refused")
    words = "When the model's rate limit that was last met is renewed; missing before the first."
    yield _gauge("claude_rate_limit_reset_timestamp_seconds", words, claude.limit_resets_at)


def _of_outbox(now: Snapshot) -> Iterator[Metric]:
    outbox = now.outbox
    yield _gauge("outbox_results", "Finished results that wait for Convex.", outbox.waiting)
    words = "How long the oldest of them has waited; 0 for none."
    yield _gauge("outbox_oldest_seconds", words, outbox.oldest or 0.0)
    words = "Those that the disk refused: they would be lost with the process."
    yield _gauge("outbox_unkept_results", words, outbox.unkept)
    yield _gauge("outbox_refused_results", "Results that Convex refused, kept.", outbox.refused)
    words = "Results found that belong to another deployment."
    yield _gauge("outbox_elsewhere_results", words, outbox.elsewhere)


def _of_host(now: Snapshot) -> Iterator[Metric]:
    free = {disk.setting: disk.free for disk in now.host.disks}
    yield _gauges("disk_free_bytes", "Free below a directory of the worker.", "directory", free)
    yield _gauge(
        "disk_floor_bytes", "DISK_FLOOR: with less, nothing is claimed.", now.host.disk_floor
    )
    family = now.family
    yield _gauge("processes", "The worker's processes.", 1 + family.children)
    rss = family.rss + family.children_rss
    yield _gauge("resident_memory_bytes", "Resident memory of all of them.", rss)
    cpu = CounterMetricFamily(f"{PREFIX}_cpu_seconds", "CPU time of all of them, the ended too.")
    cpu.add_metric((), family.cpu)
    yield cpu


def _gauge(name: str, words: str, value: float | None) -> GaugeMetricFamily:
    """Return a gauge; without a value its name alone."""
    return GaugeMetricFamily(f"{PREFIX}_{name}", words, None if value is None else float(value))


def _gauges(name: str, words: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"{PREFIX}_{name}", words, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), float(value))
    return family


def _info(name: str, words: str, labels: dict[str, str]) -> InfoMetricFamily:
    return InfoMetricFamily(f"{PREFIX}_{name}", words, labels)


class Exposition:
    """Everything that there is to scrape."""

    def __init__(self, metrics: Metrics, look: Look) -> None:
        self._registry = metrics.registry
        self._registry.register(States(look))
        ProcessCollector(registry=self._registry)

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return text and content type: OpenMetrics where *accept* asks for it."""
        offers = filter(_OFFER.fullmatch, accept.split(","))
        encode, content_type = choose_encoder(",".join(offers))
        return encode(self._registry), content_type
