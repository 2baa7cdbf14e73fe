"""What this worker counts and measures, for Prometheus; the only module that knows its library.

Each name is explained in `docs/metrics.md`; a test compares. Labels have few values, all of them
known to this program: what a repository, a model or Convex names is counted as `other` beyond
those. What is a state and no event is not kept here, but read from a snapshot when it is asked for.
"""

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from fondation_worker.result import Share, Usage
from fondation_worker.snapshot import Snapshot
from fondation_worker.verdict import ACTIONS

PREFIX = "fondation_worker"
OTHER = "other"
MOST_MODELS = 8  # names of models that are told apart

_CALLS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)  # seconds
_WAITS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400)
_STEPS = (0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)
_SILENCES = (1, 5, 10, 30, 60, 120, 300, 600, 1200)
_SLACKS = (0, 5, 15, 30, 60, 90, 120, 180, 240, 300, 600)
_LATENESS = (0.001, 0.005, 0.025, 0.1, 0.5, 1, 5, 15, 60)
_SIZES = tuple(2**10 * 4**n for n in range(11))  # bytes: 1 KiB to 1 GiB
_PRICES = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100)  # dollars

FAILED_OUTCOMES = ("pending", "dead")  # the job's status after an attempt that failed
OTHER_OUTCOMES = ("completed", "released", "kept", "canceled", "lost", "refused", "fault")
RENEWAL_OUTCOMES = ("ok", "failed")
RESULT_OUTCOMES = ("accepted", "refused")
TOKEN_CLASSES = ("input", "output", "cache_read", "cache_creation")
TOOLS = ("Read", "Glob", "Grep")
STATUSES = ("400", "401", "403", "404", "408", "413", "429", "500", "502", "503", "504", "529")
CONVEX_OUTCOMES = ("ok", "refused", "lease_lost", "failed", "unreachable")
WAKE_SOURCES = ("start", "push", "due", "poll")
PAUSES = ("paused", "credential", "model", "convex", "disk", "memory", "outbox")
STATES = (*PAUSES, "trouble", "stopping", OTHER)  # what keeps from claiming, at one moment


class Metrics:
    """The counters and histograms of one process, and the registry that holds them."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each, which no query of ours needs
        self.registry = CollectorRegistry()
        self.attempts = self._counter("attempts", "Attempts that began: jobs that were claimed.")
        self.jobs = self._counter(
            "jobs", "Attempts that ended, by what became of them.", "outcome", "error_class"
        )
        self.job_seconds = self._histogram(
            "job_duration_seconds", "How long an attempt took.", _STEPS, "outcome"
        )
        self._step_seconds = self._histogram(
            "job_step_duration_seconds", "How long one step of an attempt took.", _STEPS, "step"
        )
        self.queue_wait = self._histogram(
            "job_queue_wait_seconds", "From when a job was due to its claim.", _WAITS
        )
        self.pickup = self._histogram(
            "job_pickup_seconds",
            "The same, by what woke the slot; start: it had just begun, or ended a job.",
            _WAITS,
            "source",
        )
        self._wakeups = self._counter("wakeups", "Wake-ups of idle slots.", "source")
        self._renewals = self._counter("lease_renewals", "Renewals of leases.", "outcome")
        self._slack = self._histogram(
            "lease_renewal_slack_seconds",
            "How long the work could have gone on when its lease was renewed.",
            _SLACKS,
        )
        self._calls = self._histogram(
            "convex_call_duration_seconds", "Calls to Convex.", _CALLS, "function", "outcome"
        )
        self.clone_seconds = self._histogram(
            "clone_duration_seconds", "How long a clone took that succeeded.", _STEPS
        )
        self.clone_bytes = self._histogram(
            "clone_size_bytes", "The size of the files of a clone.", _SIZES
        )
        self._tokens = self._counter(
            "claude_tokens", "Tokens, as the CLI reported them.", "model", "class"
        )
        self._dollars = self._counter(
            "claude_cost_dollars", "What runs cost, as the CLI reported it.", "model"
        )
        self._prices = self._histogram(
            "claude_run_cost_dollars", "What one run cost, as the CLI reported it.", _PRICES
        )
        self.turns = self._counter("claude_turns", "Turns of runs, as the CLI reported them.")
        self._tool_calls = self._counter("claude_tool_calls", "Calls of the CLI's tools.", "tool")
        self.first_event = self._histogram(
            "claude_first_event_seconds",
            "From the start of a run to the CLI's first line.",
            _CALLS,
        )
        self.longest_silence = self._histogram(
            "claude_longest_silence_seconds",
            "The longest time of a run without a sign of life.",
            _SILENCES,
        )
        self._retries = self._counter(
            "claude_retries", "Errors of the model's service that the CLI met.", "status"
        )
        self.limits = self._counter(
            "claude_rate_limits", "Requests that the model's rate limit refused."
        )
        self.orphans = self._counter(
            "orphans_killed", "Processes that a run left behind, and that were killed."
        )
        self._results = self._counter(
            "results", "Finished results that Convex decided on.", "outcome"
        )
        self._pauses = self._counter(
            "pauses", "How often something began to keep this worker from claiming.", "reason"
        )
        self.lateness = self._histogram(
            "watchdog_tick_lateness_seconds", "How late the event loop's ticks came.", _LATENESS
        )
        self._models: set[str] = set()
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Export what may happen before it has: `increase()` does not see a series begin."""
        for outcome in FAILED_OUTCOMES:
            for error in ACTIONS:
                self.jobs.labels(outcome, error.failure)
        for outcome in OTHER_OUTCOMES:
            self.jobs.labels(outcome, "")
        known: tuple[tuple[Counter | Histogram, Iterable[str]], ...] = (
            (self.job_seconds, (*FAILED_OUTCOMES, *OTHER_OUTCOMES)),
            (self.pickup, WAKE_SOURCES),
            (self._wakeups, WAKE_SOURCES[1:]),
            (self._renewals, RENEWAL_OUTCOMES),
            (self._results, RESULT_OUTCOMES),
            (self._pauses, (*PAUSES, OTHER)),
            (self._retries, (*STATUSES, "none", OTHER)),
            (self._tool_calls, (*TOOLS, OTHER)),
        )
        for metric, values in known:
            for value in values:
                metric.labels(value)

    def cost(self, usage: Usage, shares: Iterable[Share]) -> None:
        """Count what a run cost, by the models' *shares* where the CLI told them.

        A figure that it did not give counts for nothing.
        """
        self.turns.inc(usage.turns or 0)
        if usage.cost_usd is not None:  # this sum begins at 0: no model is known before it costs
            self._prices.observe(usage.cost_usd)
        for share in tuple(shares) or (_whole(usage),):
            model = self._known(share.model)
            figures = (
                share.input_tokens,
                share.output_tokens,
                share.cache_read_tokens,
                share.cache_creation_tokens,
            )
            for kind, figure in zip(TOKEN_CLASSES, figures, strict=True):
                self._tokens.labels(model, kind).inc(figure)
            self._dollars.labels(model).inc(share.cost_usd)

    def called(self, what: str, outcome: str, seconds: float) -> None:
        """Count a call to Convex."""
        self._calls.labels(what, outcome).observe(seconds)

    def woken(self, source: str) -> None:
        """Count what woke an idle slot."""
        self._wakeups.labels(source).inc()

    def result(self, outcome: str) -> None:
        """Count what Convex decided on a finished result."""
        self._results.labels(outcome).inc()

    def renewal(self, slack: float | None) -> None:
        """Count a renewal of a lease, and the seconds that were left then; None: it failed."""
        self._renewals.labels("failed" if slack is None else "ok").inc()
        if slack is not None:
            self._slack.observe(max(0.0, slack))

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure how long one step of a job takes, however it ends."""
        with self._step_seconds.labels(name).time():
            yield

    def tool_call(self, name: str) -> None:
        """Count a call of the CLI's tool *name*."""
        self._tool_calls.labels(name if name in TOOLS else OTHER).inc()

    def retry(self, status: int | None) -> None:
        """Count an error of the model's service; without a *status* there was no answer."""
        word = "none" if status is None else str(status)
        self._retries.labels(word if word in {*STATUSES, "none"} else OTHER).inc()

    def pause(self, key: str) -> None:
        """Count that something began to keep this worker from claiming, by its reason's *key*."""
        self._pauses.labels(pause_of(key)).inc()

    def _known(self, model: str) -> str:
        if model in self._models or len(self._models) < MOST_MODELS:
            self._models.add(model)
            return model
        return OTHER

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", words, labels, registry=self.registry)

    def _histogram(
        self, name: str, words: str, buckets: Iterable[float], *labels: str
    ) -> Histogram:
        return Histogram(
            f"{PREFIX}_{name}", words, labels, registry=self.registry, buckets=tuple(buckets)
        )


def _whole(usage: Usage) -> Share:
    """Return the whole cost of a run as one share."""
    return Share(
        model=usage.model or "unknown",
        cost_usd=usage.cost_usd or 0.0,
        input_tokens=usage.input_tokens or 0,
        output_tokens=usage.output_tokens or 0,
        cache_read_tokens=usage.cache_read_tokens or 0,
        cache_creation_tokens=usage.cache_creation_tokens or 0,
    )


def pause_of(key: str) -> str:
    """Return the label for a reason's *key*."""
    first = key.split(maxsplit=1)[0]
    word = {"unwritable": "disk", "inodes": "disk"}.get(first, first)
    return word if word in STATES else OTHER


class States(Collector):
    """What a snapshot says, as gauges: read anew for each scrape."""

    def __init__(self, look: Callable[[], Snapshot]) -> None:
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
    yield _gauge("healthy", "1 unless /health says unhealthy.", now.status != "unhealthy")
    yield _gauge("ready", "1 while it would take a job.", not now.in_the_way)
    held = {pause_of(reason.key) for reason in now.in_the_way}
    yield _gauges(
        "paused",
        "1 while this keeps the worker from claiming.",
        "reason",
        {reason: reason in held for reason in STATES},
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

    def __init__(self, metrics: Metrics, look: Callable[[], Snapshot]) -> None:
        self._registry = metrics.registry
        self._registry.register(States(look))
        ProcessCollector(registry=self._registry)

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return text and content type: OpenMetrics where *accept* asks for it."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type
