"""The panels of the dashboards: what is asked, and what to make of the answer.

A panel that names an alert draws its threshold. Everything is by instance, so that a panel says the
same of one worker and of a fleet. What ends seldom is counted over the hour before each point.
"""

from typing import Any

from devtools.visuals import GREEN, ORANGE, RED, Panel, Query

P = "fondation_worker"
AT_LEAST_ONE = ((None, RED), (1, GREEN))
NONE = ((None, GREEN), (1, RED))


def quantiles(metric: str, *more: str, by: str = "") -> tuple[Query, ...]:
    """Return the queries for half and for 95 % of what *metric* saw within an hour."""
    labels = ", ".join(("le", by) if by else ("le",))
    which = ", ".join(("@", *more))
    seen = f"sum by ({labels}) (rate({P}_{metric}_bucket{{{which}}}[1h]))"
    legend = f" {{{{{by}}}}}" if by else ""
    return tuple(
        Query(f"histogram_quantile({share}, {seen})", f"{words}{legend}")
        for share, words in ((0.5, "half"), (0.95, "95 %"))
    )


def hourly(metric: str, *more: str, by: str = "") -> Query:
    """Return the query for how much *metric* grew within an hour, apart *by* labels."""
    legend = " ".join(f"{{{{{label}}}}}" for label in by.split(", ")) if by else ""
    which = ", ".join(("@", *more))
    apart = f"sum by ({by})" if by else "sum"
    return Query(f"{apart} (increase({P}_{metric}{{{which}}}[1h]))", legend)


def now(title: str, words: str, expr: str, **more: Any) -> Panel:
    """Return a panel with one figure of this moment."""
    queries = (Query(expr),)
    return Panel(title=title, words=words, queries=queries, kind="stat", width=4, height=4, **more)


def gauge(metric: str) -> tuple[Query, ...]:
    """Return the query for a gauge of each instance."""
    return (Query(f"{P}_{metric}{{@}}", "{{instance}}"),)


ENDED = Panel(
    title="Attempts that ended",
    words="Within the hour before, by what became of them. `pending` and `dead` are failures: the"
    " first are tried again. `began` counts claims.",
    queries=(hourly("jobs_total", by="outcome"), Query(hourly("attempts_total").expr, "began")),
)
FAILED = Panel(
    title="Failures by class",
    words="Within the hour before. docs/operations.md says what each class means and what to do.",
    queries=(hourly("jobs_total", 'error_class!=""', by="error_class"),),
    stacked=True,
)
DURATION = Panel(
    title="How long attempts take",
    words="Of those that completed within the hour before, from the claim to the end.",
    queries=quantiles("job_duration_seconds", 'outcome="completed"'),
    unit="s",
)
QUEUE_WAIT = Panel(
    title="How long jobs waited",
    words="From when a job was due to its claim. When it grows while all slots are used, there are"
    " too few slots.",
    queries=quantiles("job_queue_wait_seconds"),
    unit="s",
)
PICKUP = Panel(
    title="Pick-up by an idle slot",
    words="From when a job was due to its claim by a slot that had nothing to do, by what woke it."
    " `push` takes parts of a second; `poll` as long as POLL_INTERVAL.",
    queries=quantiles("job_pickup_seconds", by="source"),
    unit="s",
)
WAKEUPS = Panel(
    title="Wake-ups of idle slots",
    words="Within the hour before, by what woke them. Many by `poll` while push is up would be"
    " jobs that push did not announce.",
    queries=(hourly("wakeups_total", by="source"),),
)
SLOTS = Panel(
    title="Slots",
    words="Jobs that run, and how many could (MAX_CONCURRENT_JOBS of each worker).",
    queries=(
        Query(f"sum({P}_active_jobs{{@}})", "used"),
        Query(f"sum({P}_slots{{@}})", "there"),
    ),
)
AGE = Panel(
    title="Age of the oldest job, beyond JOB_TIMEOUT",
    words="Below zero is usual: what is left of JOB_TIMEOUT. Above it the worker did not end what"
    " it should have.",
    queries=(
        Query(
            f"{P}_job_age_seconds{{@}} - on (job, instance) {P}_job_timeout_seconds{{@}}",
            "{{instance}}",
        ),
    ),
    unit="s",
    steps=((None, GREEN), (600, RED)),
    alert="FondationJobStuck",
)
DOLLARS = Panel(
    title="Dollars within an hour",
    words="What runs cost that ended within the hour before, as the CLI reported it, all together."
    " The threshold is that of the alert, and yours to set.",
    queries=(Query(hourly("claude_run_cost_dollars_sum").expr, "all"),),
    unit="currencyUSD",
    steps=((None, GREEN), (50, RED)),
    alert="FondationDollarsPerHour",
)
DOLLARS_BY_MODEL = Panel(
    title="Dollars within an hour, by model",
    words="As the CLI reported it. The first run of a model after a worker's start is not seen:"
    " its series only begins with it. All together counts it.",
    queries=(hourly("claude_cost_dollars_total", by="model"),),
    unit="currencyUSD",
    stacked=True,
)
PRICE = Panel(
    title="What a run costs",
    words="Of runs that ended within the hour before, as the CLI reported it.",
    queries=quantiles("claude_run_cost_dollars"),
    unit="currencyUSD",
)
TOKENS = Panel(
    title="Tokens by model",
    words="Within the hour before. Reading from the cache is the cheapest by far.",
    queries=(hourly("claude_tokens_total", by="model, class"),),
)
PUSH = Panel(
    title="Push and Convex",
    words="How many workers are woken by Convex, how many reach it, and how many there are. Those"
    " without push poll.",
    queries=(
        Query(f"sum({P}_push_up{{@}})", "push is up"),
        Query(f"sum({P}_convex_reachable{{@}})", "Convex answers"),
        Query("count(up{@})", "workers"),
    ),
)
LATENCY = Panel(
    title="Calls to Convex: how long",
    words="95 % of calls within 15 minutes took less, by function.",
    queries=(
        Query(
            "histogram_quantile(0.95, sum by (le, function)"
            f" (rate({P}_convex_call_duration_seconds_bucket{{@}}[15m])))",
            "{{function}}",
        ),
    ),
    unit="s",
)
CALLS = Panel(
    title="Calls to Convex: how they ended",
    words="A minute. `unreachable` had no answer; `failed` is an answer that is none of ours.",
    queries=(
        Query(
            "sum by (outcome)"
            f" (rate({P}_convex_call_duration_seconds_count{{@}}[$__rate_interval])) * 60",
            "{{outcome}}",
        ),
    ),
)
ANSWER = Panel(
    title="Since Convex last answered",
    words="An idle worker asks every 5 minutes, a busy one every HEARTBEAT_INTERVAL.",
    queries=gauge("convex_answer_age_seconds"),
    unit="s",
)
SKEW = Panel(
    title="Clock",
    words="How far Convex's clock is ahead of this host's. Leases do not hang on it; what people"
    " compare does.",
    queries=(Query(f"abs({P}_convex_clock_skew_seconds{{@}})", "{{instance}}"),),
    unit="s",
    steps=((None, GREEN), (120, ORANGE)),
    alert="FondationClockSkew",
)
SLACK = Panel(
    title="Lease slack",
    words="What is left of the lease before the work would be cancelled, as a share of LEASE_TIME:"
    " the least of all jobs. Missing while none runs.",
    queries=(
        Query(
            f"{P}_lease_slack_seconds{{@}} / on (job, instance) {P}_lease_time_seconds{{@}}",
            "{{instance}}",
        ),
    ),
    unit="percentunit",
    steps=((None, RED), (0.33, GREEN)),
    alert="FondationLeaseSlackLow",
)
RENEWALS = Panel(
    title="Renewals of leases",
    words="Within the hour before. A failed one is sent again every 2 s; some are the network's.",
    queries=(hourly("lease_renewals_total", by="outcome"),),
)
OUTBOX = Panel(
    title="Finished results",
    words="What waits for Convex, what of it is in memory only, what Convex refused, and what"
    " belongs to another deployment. Usually none.",
    queries=(
        Query(f"sum({P}_outbox_results{{@}})", "wait"),
        Query(f"sum({P}_outbox_unkept_results{{@}})", "in memory only"),
        Query(f"sum({P}_outbox_refused_results{{@}})", "refused, kept"),
        Query(f"sum({P}_outbox_elsewhere_results{{@}})", "of another deployment"),
    ),
)
OLDEST = Panel(
    title="The oldest result waits",
    words="How long the oldest finished result has waited for Convex; 0 for none.",
    queries=gauge("outbox_oldest_seconds"),
    unit="s",
    steps=((None, GREEN), (1800, RED)),
    alert="FondationOutboxOld",
)
RESULTS = Panel(
    title="Results that Convex decided on",
    words="Within the hour before. A refused one is kept for a week, with the reason.",
    queries=(hourly("results_total", by="outcome"),),
)
FREE = Panel(
    title="Free on disk",
    words="Below TEMP_DIR (clones) and STATE_DIR (results).",
    queries=(Query(f"{P}_disk_free_bytes{{@}}", "{{instance}} {{directory}}"),),
    unit="bytes",
)
ROOM = Panel(
    title="Free, in units of DISK_FLOOR",
    words="Below 1 nothing is claimed. Nothing is shown where DISK_FLOOR is 0.",
    queries=(
        Query(
            f"{P}_disk_free_bytes{{@}} / on (job, instance) group_left ()"
            f" ({P}_disk_floor_bytes{{@}} > 0)",
            "{{instance}} {{directory}}",
        ),
    ),
    steps=((None, RED), (1, ORANGE), (2, GREEN)),
    alert="FondationDiskLow",
)
MEMORY = Panel(
    title="Memory",
    words="Of the worker and all its children: git, the Claude CLI, the child that listens. Reckon"
    " with 100 MiB, and 300 to 450 MB for each run.",
    queries=gauge("resident_memory_bytes"),
    unit="bytes",
)
CPU = Panel(
    title="CPU",
    words="Cores in use by the worker and all its children, those that ended included.",
    queries=(Query(f"rate({P}_cpu_seconds_total{{@}}[$__rate_interval])", "{{instance}}"),),
)
LATE = Panel(
    title="The event loop stood still for more than 5 s",
    words="How often within 15 minutes. A late loop renews leases late; after 60 s the watchdog"
    " kills the worker.",
    queries=(
        Query(
            f"increase({P}_watchdog_tick_lateness_seconds_count{{@}}[15m]) - ignoring (le)"
            f' increase({P}_watchdog_tick_lateness_seconds_bucket{{@, le="5.0"}}[15m])',
            "{{instance}}",
        ),
    ),
    steps=((None, GREEN), (0.5, RED)),
    alert="FondationEventLoopLate",
)
STARTS = Panel(
    title="Starts",
    words="How often the worker was seen to start within 15 minutes.",
    queries=(Query("changes(process_start_time_seconds{@}[15m])", "{{instance}}"),),
    steps=((None, GREEN), (3, RED)),
    alert="FondationWorkerRestarts",
)
REFUSED = Panel(
    title="The model refuses the credential",
    words="1 while it does: nothing is claimed until a test of the worker's own succeeds.",
    queries=gauge("claude_credential_refused"),
    steps=((None, GREEN), (1, RED)),
    alert="FondationCredentialRefused",
)
LIMITS = Panel(
    title="Rate limits",
    words="Requests within the hour before that the model's rate limit refused.",
    queries=(hourly("claude_rate_limits_total", by="instance"),),
)
RETRIES = Panel(
    title="Errors of the model's service",
    words="That the CLI met and tried again by itself, within the hour before, by HTTP status;"
    " `none` had no answer.",
    queries=(hourly("claude_retries_total", by="status"),),
)
ALERTS = Panel(
    title="Alerts",
    words="What fires now, as fondation-worker.rules.yml has it; each has its entry in"
    " docs/operations.md.",
    queries=(Query('ALERTS{alertname=~"Fondation.+", alertstate="firing", job="$job"}'),),
    kind="table",
    width=12,
    hidden=("alertstate",),
)
WORKERS = Panel(
    title="Workers",
    words="Each with its label, the version of the program and that of the Claude CLI.",
    queries=(
        Query(
            f"{P}_worker_info{{@}}"
            f" * on (job, instance) group_left (version, python) {P}_build_info{{@}}"
            " * on (job, instance) group_left (claude)"
            f' label_replace({P}_claude_info{{@}}, "claude", "$1", "version", "(.+)")'
        ),
    ),
    kind="table",
    width=12,
)
