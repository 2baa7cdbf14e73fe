"""What this worker counts and measures, for Prometheus.

Each name is explained in `docs/metrics.md`; a test compares. Labels have few values, all of them
known to this program: what a repository, a model or Convex names is counted as `other` beyond
those. What is a state and no event is not kept here: see `exposition.py`.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

from fondation_worker.result import Share, Usage
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
WAKE_SOURCES = ("start", "push", "due", "poll", OTHER)
PAUSES = ("paused", "credential", "model", "convex", "disk", "memory", "outbox")
# What keeps from claiming, at one moment.
HOLDS = (*PAUSES, "trouble", "settings", "stopping", OTHER)


class Metrics:
    """The counters and histograms of one process, and the registry that holds them."""

    def __init__(self) -> None:
        # Each would have a series more, which no query of ours needs.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._attempts = self._counter("attempts", "Attempts that began: jobs that were claimed.")
        self._jobs = self._counter(
            "jobs", "Attempts that ended, by what became of them.", "outcome", "error_class"
        )
        self._job_seconds = self._histogram(
            "job_duration_seconds", "How long an attempt took.", _STEPS, "outcome"
        )
        self._step_seconds = self._histogram(
            "job_step_duration_seconds", "How long one step of an attempt took.", _STEPS, "step"
        )
        self._queue_wait = self._histogram(
            "job_queue_wait_seconds", "From when a job was due to its claim.", _WAITS
        )
        self._pickup = self._histogram(
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
        self._clone_seconds = self._histogram(
            "clone_duration_seconds", "How long a clone took that succeeded.", _STEPS
        )
        self._clone_bytes = self._histogram(
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
        self._turns = self._counter("claude_turns", "Turns of runs, as the CLI reported them.")
        self._tool_calls = self._counter("claude_tool_calls", "Calls of the CLI's tools.", "tool")
        self._first_event = self._histogram(
            "claude_first_event_seconds",
            "From the start of a run to the CLI's first line.",
            _CALLS,
        )
        self._longest_silence = self._histogram(
            "claude_longest_silence_seconds",
            "The longest time of a run without a sign of life.",
            _SILENCES,
        )
        self._retries = self._counter(
            "claude_retries", "Errors of the model's service that the CLI met.", "status"
        )
        self._limits = self._counter(
            "claude_rate_limits", "Requests that the model's rate limit refused."
        )
        self._orphans = self._counter(
            "orphans_killed", "Processes that a run left behind, and that were killed."
        )
        self._results = self._counter(
            "results", "Finished results that Convex decided on.", "outcome"
        )
        self._pauses = self._counter(
            "pauses", "How often something began to keep this worker from claiming.", "reason"
        )
        self._lateness = self._histogram(
            "watchdog_tick_lateness_seconds", "How late the event loop's ticks came.", _LATENESS
        )
        self._models: set[str] = set()
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Export what may happen before it has: `increase()` does not see a series begin."""
        for outcome in FAILED_OUTCOMES:
            for error in ACTIONS:
                self._jobs.labels(outcome, error.failure)
        for outcome in OTHER_OUTCOMES:
            self._jobs.labels(outcome, "")
        known: tuple[tuple[Counter | Histogram, Iterable[str]], ...] = (
            (self._job_seconds, (*FAILED_OUTCOMES, *OTHER_OUTCOMES)),
            (self._pickup, WAKE_SOURCES),
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

    def began(self) -> None:
        """Count an attempt that begins."""
        self._attempts.inc()

    def waited(self, source: str, seconds: float) -> None:
        """Count how long a job was due before its claim, and what woke the slot that took it."""
        self._queue_wait.observe(seconds)
        self._pickup.labels(source).observe(seconds)

    def ended(self, outcome: str, failure: str, seconds: float | None = None) -> None:
        """Count an attempt that ended, and what it took; None: an earlier process knew that.

        A failed job's status is whatever Convex says: one that is not known counts as `other`.
        """
        label = outcome if outcome in {*FAILED_OUTCOMES, *OTHER_OUTCOMES} else OTHER
        self._jobs.labels(label, failure).inc()
        if seconds is not None:
            self._job_seconds.labels(label).observe(seconds)

    def cloned(self, seconds: float, size: int) -> None:
        """Count a clone that succeeded, and the *size* of its files in bytes."""
        self._clone_seconds.observe(seconds)
        self._clone_bytes.observe(size)

    def spoke_first(self, seconds: float) -> None:
        """Count how long a run of the CLI took to its first line."""
        self._first_event.observe(seconds)

    def was_silent(self, seconds: float) -> None:
        """Count the longest silence of a run."""
        self._longest_silence.observe(seconds)

    def met_limit(self) -> None:
        """Count a request that the model's rate limit refused."""
        self._limits.inc()

    def killed(self, orphans: int) -> None:
        """Count what a run left behind."""
        self._orphans.inc(orphans)

    def ticked(self, late: float) -> None:
        """Count a tick of the event loop, and how many seconds *late* it came."""
        self._lateness.observe(late)

    def cost(self, usage: Usage, shares: Iterable[Share]) -> None:
        """Count what a run cost, by the models' *shares* where the CLI told them.

        A figure that it did not give counts for nothing.
        """
        self._turns.inc(usage.turns or 0)
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

    def renewal(self, outcome: str, slack: float | None) -> None:
        """Count a renewal of a lease, and the seconds that were left then, if they are told."""
        self._renewals.labels(outcome).inc()
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
    return word if word in HOLDS else OTHER
