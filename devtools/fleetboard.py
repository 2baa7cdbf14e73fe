"""The dashboard of a fleet."""

from devtools import panels
from devtools.grafana import Board, row
from devtools.panels import AT_LEAST_ONE, NONE, P, gauge, now
from devtools.visuals import Panel, Query

FLEET_NOW = row(
    "Now",
    now(
        "Workers up",
        "That answer Prometheus.",
        "sum(up{@})",
        steps=AT_LEAST_ONE,
        alert="FondationNoWorker",
    ),
    now(
        "Workers ready",
        "That would take a job.",
        f"sum({P}_ready{{@}})",
        steps=AT_LEAST_ONE,
        alert="FondationNothingClaimed",
    ),
    now(
        "Slots used",
        "The share of all slots that have a job. Near 100 % for long: more slots are wanted.",
        f"sum({P}_active_jobs{{@}}) / sum({P}_slots{{@}})",
        unit="percentunit",
    ),
    now(
        "Completed",
        "Jobs, within the time shown.",
        f'sum(increase({P}_jobs_total{{@, outcome="completed"}}[$__range]))',
    ),
    now(
        "Dead",
        "Attempts within the time shown after which their job was dead, customers' mistakes"
        " included.",
        f'sum(increase({P}_jobs_total{{@, outcome="dead"}}[$__range]))',
    ),
    now(
        "In memory only",
        "Finished results that the disk refused: lost with the process.",
        f"sum({P}_outbox_unkept_results{{@}})",
        steps=NONE,
        alert="FondationResultsUnkept",
    ),
    panels.ALERTS,
    panels.WORKERS,
)

FLEET = Board(
    uid="fondation-fleet",
    title="fondation-worker: fleet",
    words="All workers of one job of Prometheus. docs/operations.md explains the alerts.",
    many=True,
    rows=(
        FLEET_NOW,
        row(
            "Workers",
            panels.SLOTS,
            Panel(
                title="Up, by version",
                words="During an upgrade two versions are up until running jobs have ended.",
                queries=(Query(f"count by (version) ({P}_build_info{{@}})", "{{version}}"),),
                stacked=True,
            ),
            Panel(
                title="Ready, by version",
                words="Those that would take a job.",
                queries=(
                    Query(
                        f"sum by (version) ({P}_ready{{@}} * on (job, instance)"
                        f" group_left (version) {P}_build_info{{@}})",
                        "{{version}}",
                    ),
                ),
                stacked=True,
            ),
            Panel(
                title="What keeps workers from claiming",
                words="How many workers each reason holds.",
                queries=(Query(f"sum by (reason) ({P}_paused{{@}})", "{{reason}}"),),
            ),
            Panel(
                title="Healthy",
                words="0 while /health of that worker says unhealthy.",
                queries=gauge("healthy"),
                steps=AT_LEAST_ONE,
                alert="FondationWorkerUnhealthy",
            ),
            panels.STARTS,
        ),
        row(
            "Jobs",
            panels.ENDED,
            panels.FAILED,
            panels.DURATION,
            panels.QUEUE_WAIT,
            panels.PICKUP,
            panels.AGE,
        ),
        row(
            "Money and the model",
            panels.DOLLARS,
            panels.DOLLARS_BY_MODEL,
            panels.TOKENS,
            panels.PRICE,
            panels.LIMITS,
            panels.REFUSED,
        ),
        row("Convex", panels.PUSH, panels.LATENCY, panels.CALLS, panels.SKEW, panels.ANSWER),
        row(
            "Leases and results",
            panels.SLACK,
            panels.RENEWALS,
            panels.OLDEST,
            panels.OUTBOX,
            panels.RESULTS,
        ),
        row("Hosts", panels.ROOM, panels.FREE, panels.LATE, panels.MEMORY, panels.CPU),
    ),
)
