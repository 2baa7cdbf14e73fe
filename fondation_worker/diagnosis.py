"""From how a worker is to what is not well with it: pure, and the one place of the thresholds.

`unhealthy` is a worker that does not do what it is for, and will not without somebody or some time;
`degraded` is one that works with less than all of its means, or waits for what passes or was wished
for. Being idle is neither. docs/operations.md explains each.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from fondation_worker.admission import Level, Reason
from fondation_worker.convex import KEY_REFUSED
from fondation_worker.snapshot import OutboxState, Running
from fondation_worker.words import length

LONG_TROUBLE = 60.0  # seconds without an answer of Convex that may be a moment's
LONG_POLLING = 300.0  # seconds without push that a reconnect may take
OLD_RESULT = 300.0  # seconds that a finished result may wait
LOST_RESULT = 3600.0  # seconds after which nobody would call that waiting
LARGEST_SKEW = 120.0  # seconds between the clocks; the log says so from a minute on
LATE_TICK = 5.0  # seconds that the event loop may stand still
# What is left of a lease when its renewal is late: HEARTBEAT_INTERVAL may be half of LEASE_TIME.
LATE_LEASE = 1 / 3
OVERDUE_LEASE = 1 / 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """What the judgement is made from, beside the reasons that hold the gate. Times are seconds."""

    trouble: str | None  # with Convex
    trouble_for: float
    push_down_for: float  # 0: it is up
    no_port: str | None
    outbox: OutboxState
    running: tuple[Running, ...]
    lease_time: float
    skew: float | None
    lateness: float
    cli_trouble: str | None


def reasons_in(signs: Signs) -> tuple[Reason, ...]:
    """Return what is not well."""
    return (
        *_of_convex(signs),
        *_of_leases(signs),
        *_of_outbox(signs.outbox),
        *_of_the_process(signs),
    )


def _of_convex(signs: Signs) -> Iterator[Reason]:
    if signs.trouble:
        is_long = signs.trouble_for >= LONG_TROUBLE or signs.trouble == KEY_REFUSED
        yield Reason(
            key="trouble",
            words=f"Convex: {signs.trouble}",
            level=Level.UNHEALTHY if is_long else Level.DEGRADED,
        )
    elif signs.push_down_for >= LONG_POLLING:
        yield _remark(
            "push",
            f"Convex has not woken this worker for {length(signs.push_down_for)}: it polls; do the"
            " deployment's crons run, and does something cut web sockets?",
        )
    if signs.skew is not None and abs(signs.skew) > LARGEST_SKEW:
        yield _remark(
            "skew",
            f"this host's clock and Convex's are {length(abs(signs.skew))} apart; is the time"
            " synchronised?",
        )


def _of_leases(signs: Signs) -> Iterator[Reason]:
    for job in signs.running:
        if job.slack is None:
            continue
        left = job.slack / signs.lease_time
        if left < LATE_LEASE:
            yield Reason(
                key=f"lease {job.job_id}",
                words=f"the lease of job {job.job_id} was not renewed in time; the job is given up"
                f" in {max(0.0, job.slack):.0f} s",
                level=Level.UNHEALTHY if left < OVERDUE_LEASE else Level.DEGRADED,
                blocks=False,
            )


def _of_outbox(outbox: OutboxState) -> Iterator[Reason]:
    if outbox.oldest is not None and outbox.oldest >= OLD_RESULT:
        yield Reason(
            key="old results",
            words=f"{outbox.waiting} finished results wait for Convex, the oldest for"
            f" {length(outbox.oldest)}; the log says why it does not take them",
            level=Level.UNHEALTHY if outbox.oldest >= LOST_RESULT else Level.DEGRADED,
            blocks=False,
        )


def _of_the_process(signs: Signs) -> Iterator[Reason]:
    if signs.lateness >= LATE_TICK:
        yield _remark(
            "loop",
            f"this process stood still for {signs.lateness:.0f} s within the last minutes: is the"
            " host short of CPU or memory, or was it stopped?",
        )
    if signs.cli_trouble:
        words = f"the Claude CLI does not run: {signs.cli_trouble}"
        yield Reason(key="cli", words=words, blocks=False)
    if signs.no_port:
        yield _remark("port", signs.no_port)


def _remark(key: str, words: str) -> Reason:
    """Return what somebody should know, and no job minds."""
    return Reason(key=key, words=words, level=Level.DEGRADED, blocks=False)
