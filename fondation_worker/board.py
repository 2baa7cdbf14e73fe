"""The board: what this worker is doing now, for cancelling it, for heartbeats and for /health."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from fondation_worker import events
from fondation_worker.clock import boottime
from fondation_worker.queue import TOTAL_STEPS, Claimed, Report
from fondation_worker.redact import Redactor
from fondation_worker.snapshot import Running
from fondation_worker.trace import Trace

logger = logging.getLogger(__name__)

UNHEARD_INTERVAL = 10.0  # seconds between heartbeats at most, while cancellations come with them

Attempt = tuple[str, int]
"""The id of a job, and the ordinal of one claim of it."""


class Held(Protocol):
    """What the board needs of a lease."""

    @property
    def told(self) -> Report:
        """How far the work is."""

    @property
    def deadline(self) -> float:
        """When the work is cancelled, in seconds on `boottime`."""

    @property
    def cancels(self) -> bool:
        """Whether it is: a finished result is no work any more."""

    def lose(self, reason: str) -> None:
        """End the work at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One job that runs."""

    claimed: Claimed
    lease: Held = field(repr=False)
    since: float  # seconds on `boottime`
    trace: Trace = field(repr=False)

    def looked_at(self, *, now: float, redact: Redactor) -> Running:
        """Return how it stands; *now* is seconds since the epoch, by Convex's clock."""
        told, here = self.lease.told, boottime()
        return Running(
            job_id=self.claimed.token.job_id,
            attempt=self.claimed.token.attempt,
            repository=redact(self.claimed.job.repository),
            step=told.status,
            step_number=told.step,
            steps=TOTAL_STEPS,
            progress=redact(told.progress),
            started_at=now - (here - self.since),
            age=here - self.since,
            silent=self.trace.silent(here),
            slack=self.lease.deadline - here if self.lease.cancels else None,
        )


class Board:
    """What runs now.

    *interval* gives the seconds between heartbeats, *hears* whether Convex's push would tell of a
    cancellation; while it would not, heartbeats are more frequent, because they do.
    """

    def __init__(self, *, interval: Callable[[], float], hears: Callable[[], bool]) -> None:
        self._interval = interval
        self._hears = hears
        self._shown: dict[Attempt, Shown] = {}
        self._canceled: frozenset[Attempt] = frozenset()

    @contextmanager
    def shown(self, claimed: Claimed, lease: Held, trace: Trace) -> Iterator[None]:
        """Show *claimed* and its *trace* while the body runs; a cancellation loses its *lease*."""
        attempt = (claimed.token.job_id, claimed.token.attempt)
        since = boottime()
        self._shown[attempt] = Shown(claimed=claimed, lease=lease, since=since, trace=trace)
        try:
            if attempt in self._canceled:  # the news was quicker than the first heartbeat
                self.cancel(*attempt)
            yield
        finally:
            del self._shown[attempt]

    def hear(self, canceled: Iterable[Attempt]) -> None:
        """Take what push says was cancelled, all of it: each time the whole list comes."""
        known, self._canceled = self._canceled, frozenset(canceled)
        for attempt in self._canceled - known:
            self.cancel(*attempt)

    def cancel(self, job_id: str, attempt: int) -> None:
        """End this attempt if it is what runs; any other is none of ours any more."""
        if shown := self._shown.get((job_id, attempt)):
            logger.info(
                "canceled: job %s attempt %d is ended",
                job_id, attempt, extra=events.CANCELED.about(shown.claimed.token),
            )  # fmt: skip
            shown.lease.lose("canceled")

    def heartbeat_interval(self) -> float:
        """Return the seconds until the next heartbeat."""
        usual = self._interval()
        return usual if self._hears() else min(usual, UNHEARD_INTERVAL)

    def jobs(self) -> tuple[Shown, ...]:
        """Return what runs now, the oldest first."""
        return tuple(sorted(self._shown.values(), key=lambda shown: shown.since))
