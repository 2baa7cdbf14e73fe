"""The dashboard of one worker."""

from devtools import panels
from devtools.grafana import Board, row
from devtools.panels import AT_LEAST_ONE, P, hourly, now, quantiles
from devtools.visuals import GREEN, ORANGE, RED, Panel, Query

HELD = {0: ("", "transparent"), 1: ("held", ORANGE)}
YES = {0: ("no", RED), 1: ("yes", GREEN)}


def heatmap(title: str, words: str, metric: str, more: str = "") -> Panel:
    """Return a panel of how often which duration was seen."""
    which = f"@, {more}" if more else "@"
    seen = f"sum by (le) (increase({P}_{metric}_bucket{{{which}}}[$__rate_interval]))"
    query = Query(seen, "{{le}}")
    return Panel(title=title, words=words, queries=(query,), kind="heatmap", unit="s")


def timeline(title: str, words: str, query: Query, states: dict[int, tuple[str, str]]) -> Panel:
    """Return a panel of when something was so."""
    return Panel(
        title=title,
        words=words,
        queries=(query,),
        kind="state-timeline",
        words_for=states,
        width=12,
    )


WORKER_NOW = row(
    "Now",
    now("Ready", "Whether it would take a job.", f"{P}_ready{{@}}", words_for=YES),
    now(
        "Healthy",
        "Whether /health says so.",
        f"{P}_healthy{{@}}",
        words_for=YES,
        steps=AT_LEAST_ONE,
        alert="FondationWorkerUnhealthy",
    ),
    now(
        "Slots used",
        "The share of its slots that have a job.",
        f"{P}_active_jobs{{@}} / {P}_slots{{@}}",
        unit="percentunit",
    ),
    now(
        "Since its start",
        "How long this process runs.",
        "time() - process_start_time_seconds{@}",
        unit="s",
    ),
    now(
        "The oldest job runs",
        "0 while none does.",
        f"{P}_job_age_seconds{{@}}",
        unit="s",
    ),
    now(
        "The limit is renewed in",
        "When the model's rate limit that was last met is renewed; below zero it is. Missing"
        " before the first.",
        f"{P}_claude_rate_limit_reset_timestamp_seconds{{@}} - time()",
        unit="s",
    ),
    panels.ALERTS,
    panels.WORKERS,
)

WORKER = Board(
    uid="fondation-worker",
    title="fondation-worker: one worker",
    words="One worker. docs/operations.md explains the alerts.",
    many=False,
    labels=(("step", f"{P}_job_step_duration_seconds_count"),),
    rows=(
        WORKER_NOW,
        row(
            "Claims",
            timeline(
                "What keeps it from claiming",
                "Each reason, while it holds the worker. The words are in /health.",
                Query(f"{P}_paused{{@}}", "{{reason}}"),
                HELD,
            ),
            timeline(
                "Push",
                "Whether Convex wakes this worker; without, it polls.",
                Query(f"{P}_push_up{{@}}", "push is up"),
                YES,
            ),
            Panel(
                title="Pauses",
                words="How often within the hour before something began to hold it.",
                queries=(hourly("pauses_total", by="reason"),),
            ),
            panels.WAKEUPS,
            panels.PICKUP,
        ),
        row(
            "Jobs",
            panels.ENDED,
            panels.FAILED,
            panels.AGE,
            heatmap(
                "How long steps take",
                "The steps that are chosen above.",
                "job_step_duration_seconds",
                'step=~"$step"',
            ),
            panels.DURATION,
            panels.QUEUE_WAIT,
            Panel(
                title="How long a clone takes",
                words="Of those that succeeded within the hour before.",
                queries=quantiles("clone_duration_seconds"),
                unit="s",
            ),
            Panel(
                title="How large a clone is",
                words="Its files, of those within the hour before.",
                queries=quantiles("clone_size_bytes"),
                unit="bytes",
            ),
            panels.SLOTS,
        ),
        row(
            "Claude",
            Panel(
                title="Silence, beyond STALL_TIME",
                words="Of the quietest run. Below zero is usual: what is left before a run"
                " without a tool would be killed. Above it a tool runs.",
                queries=(
                    Query(
                        f"{P}_claude_silent_seconds{{@}} - on (job, instance)"
                        f" {P}_stall_time_seconds{{@}}",
                        "{{instance}}",
                    ),
                ),
                unit="s",
                steps=((None, GREEN), (60, RED)),
                alert="FondationJobSilent",
            ),
            Panel(
                title="The longest silence of a run",
                words="Of runs that ended within the hour before.",
                queries=quantiles("claude_longest_silence_seconds"),
                unit="s",
            ),
            Panel(
                title="To the first line",
                words="From the start of a run to the CLI's first line.",
                queries=quantiles("claude_first_event_seconds"),
                unit="s",
            ),
            panels.RETRIES,
            panels.LIMITS,
            panels.REFUSED,
            Panel(
                title="Turns and tools",
                words="Within the hour before: turns, and calls of each tool.",
                queries=(
                    hourly("claude_tool_calls_total", by="tool"),
                    Query(hourly("claude_turns_total").expr, "turns"),
                ),
            ),
            Panel(
                title="Processes that runs left behind",
                words="And that were killed, within the hour before. Some CLIs leave some.",
                queries=(Query(hourly("orphans_killed_total").expr, "killed"),),
            ),
            panels.DOLLARS,
            panels.DOLLARS_BY_MODEL,
            panels.TOKENS,
            panels.PRICE,
        ),
        row(
            "Convex, leases and results",
            panels.LATENCY,
            panels.CALLS,
            panels.ANSWER,
            panels.SLACK,
            Panel(
                title="Slack when a lease was renewed",
                words="How long the work could have gone on. Half of the renewals had more than"
                " the upper line, 95 % more than the lower.",
                queries=tuple(
                    Query(
                        f"histogram_quantile({share}, sum by (le)"
                        f" (rate({P}_lease_renewal_slack_seconds_bucket{{@}}[1h])))",
                        words,
                    )
                    for share, words in ((0.5, "half"), (0.05, "95 %"))
                ),
                unit="s",
            ),
            panels.RENEWALS,
            panels.OLDEST,
            panels.OUTBOX,
            panels.RESULTS,
            panels.SKEW,
        ),
        row(
            "Process and host",
            heatmap(
                "How late the event loop is",
                "Ticks by how late they came.",
                "watchdog_tick_lateness_seconds",
            ),
            panels.LATE,
            panels.STARTS,
            Panel(
                title="Memory",
                words="Of the worker alone, and with its children: git, the Claude CLI, the"
                " child that listens.",
                queries=(
                    Query(f"{P}_resident_memory_bytes{{@}}", "all"),
                    Query("process_resident_memory_bytes{@}", "the worker alone"),
                ),
                unit="bytes",
            ),
            Panel(
                title="CPU",
                words="Cores in use by the worker alone, and with its children.",
                queries=(
                    Query(f"rate({P}_cpu_seconds_total{{@}}[$__rate_interval])", "all"),
                    Query(
                        "rate(process_cpu_seconds_total{@}[$__rate_interval])",
                        "the worker alone",
                    ),
                ),
            ),
            Panel(
                title="Processes and files",
                words="The worker's processes, and what it has open itself.",
                queries=(
                    Query(f"{P}_processes{{@}}", "processes"),
                    Query("process_open_fds{@}", "open files"),
                ),
            ),
            panels.ROOM,
            panels.FREE,
        ),
    ),
)
