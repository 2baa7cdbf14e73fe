"""What is written down of each attempt at its beginning and its end: metrics, and the history.

A fault in here costs a line in the books, never a job: the slots that call share a group.
"""

import logging
import math
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec

from fondation_worker import events
from fondation_worker.errors import Crashed
from fondation_worker.history import MESSAGE_LIMIT, History, Past
from fondation_worker.job import Token
from fondation_worker.metrics import OTHER_OUTCOMES, Metrics
from fondation_worker.outbox import CRASH
from fondation_worker.pipeline import JobEnd
from fondation_worker.queue import Claimed, Queue
from fondation_worker.result import well_formed
from fondation_worker.trace import Trace

logger = logging.getLogger(__name__)

UNKNOWN = "a job of an earlier life"  # what is left of a claim does not name the repository

_Arguments = ParamSpec("_Arguments")


def _harmless(
    write: Callable[Concatenate["Ledger", _Arguments], None],
) -> Callable[Concatenate["Ledger", _Arguments], None]:
    """Return *write*, of which a fault is logged and goes no further."""

    @wraps(write)
    def written(ledger: "Ledger", /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> None:
        try:
            write(ledger, *args, **kwargs)
        except Exception:
            words = "a fault of this program: an attempt was not written down"
            logger.exception(words, extra=events.FAULT.extra)

    return written


class Ledger:
    """The books of one process."""

    def __init__(self, metrics: Metrics, history: History, queue: Queue) -> None:
        self._metrics = metrics
        self._history = history
        self._queue = queue
        self.last_began: float | None = None  # seconds since the epoch, by Convex's clock

    @_harmless
    def began(self, claimed: Claimed, woken_by: str) -> None:
        """Write down that *claimed* begins, and what woke the slot that took it."""
        self._metrics.began()
        self._history.begin()
        self.last_began = now = self._queue.now()
        due = claimed.job.due_at
        if due is None or not math.isfinite(due):  # older functions do not tell
            return
        self._metrics.waited(woken_by, max(0.0, now - due / 1000))

    @_harmless
    def crashed(self, token: Token, status: str) -> None:
        """Write down that an attempt died with an earlier life, and its job's *status* since."""
        self._metrics.ended(status, Crashed.failure)
        self._history.add(
            Past(
                ended_at=self._queue.now(),
                job_id=token.job_id,
                attempt=token.attempt,
                repository=UNKNOWN,
                outcome=status,
                error_class=Crashed.failure,
                message=CRASH,
            )
        )

    @_harmless
    def ended(self, claimed: Claimed, end: JobEnd, *, seconds: float, trace: Trace) -> None:
        """Write down how *claimed* ended after so many *seconds*."""
        # A failure that Convex did not take, of a canceled job say, is none of the job's.
        verdict = None if end.outcome in OTHER_OUTCOMES else end.verdict
        failure = verdict.failure if verdict else ""
        self._metrics.ended(end.outcome, failure, seconds)
        redact = self._queue.redact
        self._history.add(
            Past(
                ended_at=self._queue.now(),
                job_id=claimed.token.job_id,
                attempt=claimed.token.attempt,
                repository=well_formed(redact(claimed.job.repository)),
                outcome=end.outcome,
                error_class=failure or None,
                message=well_formed(redact(verdict.own))[:MESSAGE_LIMIT] if verdict else "",
                seconds=seconds,
                dollars=trace.usage.cost_usd if trace.usage else None,
            )
        )
