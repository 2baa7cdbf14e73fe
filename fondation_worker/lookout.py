"""The lookout: how this worker is at this moment, gathered from its parts.

For /health, /metrics and the status page, for systemd's status line, and for operators who look
through Convex. It reads memory, and a few small files; it waits for nobody.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

from fondation_worker import __version__
from fondation_worker.admission import Level, Limits, Reason, refusals
from fondation_worker.board import Board
from fondation_worker.clock import boottime
from fondation_worker.config import Config
from fondation_worker.convex import Convex
from fondation_worker.diagnosis import Signs, reasons_in
from fondation_worker.family import FamilyBook
from fondation_worker.gate import Gate
from fondation_worker.host import memory, readings
from fondation_worker.ledger import Ledger
from fondation_worker.login import why_not
from fondation_worker.outbox import Outbox
from fondation_worker.pause import Pause
from fondation_worker.presence import Standing
from fondation_worker.queue import Queue
from fondation_worker.slots import Ends, Worker
from fondation_worker.snapshot import (
    ClaudeState,
    ConvexState,
    Disk,
    Host,
    OutboxState,
    Running,
    Snapshot,
)
from fondation_worker.statusline import Situation
from fondation_worker.ticks import Ticks
from fondation_worker.trace import Seen
from fondation_worker.wakeup import Bell

STATE_LIMIT = 200  # characters of the state that Convex is told


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What is looked at."""

    convex: Convex
    queue: Queue
    bell: Bell
    board: Board
    outbox: Outbox
    pause: Pause
    gate: Gate
    worker: Worker
    ledger: Ledger
    seen: Seen
    ticks: Ticks
    ends: Ends


class Lookout:
    """Looks at the *parts* of worker *worker_id*, which works by what *settings* returns."""

    def __init__(
        self, parts: Parts, settings: Callable[[], Config], worker_id: str, instance: str
    ) -> None:
        self._parts = parts
        self._settings = settings
        self._worker_id = worker_id
        self._instance = instance
        self._started = boottime()
        self._family = FamilyBook()
        self.no_port: str | None = None  # why nobody is answered at HEALTH_ADDRESS

    def look(self) -> Snapshot:
        """Return how the worker is."""
        parts, now = self._parts, self._parts.queue.now()
        running = tuple(
            shown.looked_at(now=now, redact=parts.queue.redact) for shown in parts.board.jobs()
        )
        outbox, lateness = self._outbox(), parts.ticks.worst()
        return Snapshot(
            worker_id=self._worker_id,
            instance=self._instance,
            version=__version__,
            now=now,
            uptime=boottime() - self._started,
            last_job_at=parts.ledger.last_began,
            slots=self._settings().max_concurrent_jobs,
            lease_time=self._settings().lease_time,
            job_timeout=self._settings().job_timeout,
            stall_time=self._settings().stall_time,
            running=running,
            paused=parts.pause.reason,
            convex=self._convex(),
            claude=self._claude(),
            host=self._host(),
            family=self._family.read(),
            outbox=outbox,
            lateness=lateness,
            reasons=self._reasons(running, outbox, lateness),
        )

    def _convex(self) -> ConvexState:
        convex = self._parts.convex
        return ConvexState(
            is_reachable=not convex.is_unreachable,
            trouble=self._trouble(),
            answered=None if convex.answered is None else boottime() - convex.answered,
            push=self._parts.bell.push_is_up,
            skew=self._parts.queue.skew,
        )

    def _trouble(self) -> str | None:
        """Return what Convex last did wrong; it may quote what it was sent."""
        trouble = self._parts.convex.trouble
        return trouble and self._parts.queue.redact(trouble)

    def _claude(self) -> ClaudeState:
        parts = self._parts
        return ClaudeState(
            version=parts.seen.version,
            credential=parts.gate.credential,
            paused=parts.gate.waits("model"),
            limit_resets_at=parts.seen.limit_resets_at,
        )

    def _host(self) -> Host:
        config = self._settings()
        total, free = memory()
        places = readings(config).places
        return Host(
            load=os.getloadavg(),
            cores=os.cpu_count() or 1,
            memory=total,
            memory_free=free,
            disks=tuple(Disk(setting=one.setting, path=one.path, free=one.free) for one in places),
            disk_floor=config.disk_floor,
        )

    def _outbox(self) -> OutboxState:
        outbox = self._parts.outbox
        waiting, oldest = outbox.waiting
        return OutboxState(
            waiting=waiting,
            oldest=oldest,
            unkept=outbox.in_memory,
            refused=outbox.refused,
            elsewhere=outbox.elsewhere,
        )

    def _reasons(
        self, running: tuple[Running, ...], outbox: OutboxState, lateness: float
    ) -> tuple[Reason, ...]:
        """Return everything that is not well, what keeps it from its work first."""
        parts, convex = self._parts, self._parts.convex
        signs = Signs(
            trouble=self._trouble(),
            trouble_for=boottime() - convex.troubled_since,
            push_down_for=parts.bell.down_for,
            no_port=self.no_port,
            outbox=outbox,
            running=running,
            lease_time=self._settings().lease_time,
            skew=parts.queue.skew,
            lateness=lateness,
            cli_trouble=parts.seen.trouble,
        )
        found = (*self._own_reasons(), *reasons_in(signs))
        return tuple(sorted(found, key=lambda reason: not reason.blocks))

    def situation(self) -> Situation:
        """Return what a service manager is told."""
        parts, latest = self._parts, self._parts.worker.latest
        return Situation(
            ending=self._ending(),
            unreachable=parts.convex.is_unreachable,
            trouble=self._trouble(),
            push=parts.bell.push_is_up,
            busy=parts.worker.active,
            slots=self._settings().max_concurrent_jobs,
            reasons=tuple(reason.words for reason in parts.gate.reasons()),
            no_port=self.no_port,
            past=(boottime() - latest.at, latest.words) if latest else None,
        )

    def standing(self) -> Standing:
        """Return what operators are told through Convex."""
        reasons = self._own_reasons()  # trouble with Convex cannot be told to it
        usual = "working" if self._parts.worker.active else "idle"
        return Standing(
            slots=self._settings().max_concurrent_jobs,
            busy=self._parts.worker.active,
            state="; ".join(reason.words for reason in reasons)[:STATE_LIMIT] or usual,
            key=" ".join(reason.key for reason in reasons),
        )

    def _own_reasons(self) -> tuple[Reason, ...]:
        reasons = self._parts.gate.reasons()
        if not (ending := self._ending()):
            return reasons
        return (Reason(key="stopping", words=ending, level=Level.DEGRADED), *reasons)

    def _ending(self) -> str | None:
        ends = self._parts.ends
        if ends.stop.is_set():
            return "stopping"
        return "upgraded, waiting for running jobs" if ends.leave.is_set() else None


def of_this_host(config: Config, outbox: Outbox, now: float) -> tuple[Reason, ...]:
    """Return what of this host, and of what this process holds, speaks against a claim.

    *now* is seconds since the epoch, by Convex's clock.
    """
    limits = Limits(disk_floor=config.disk_floor, memory_pressure=config.memory_pressure_limit)
    found = refusals(readings(config), limits)
    if unkept := outbox.in_memory:
        words = f"{unkept} finished results could not be written below STATE_DIR"
        found += (Reason(key="outbox", words=words),)
    if why := why_not(config.credential, now=now, reserve=config.job_timeout):
        found += (Reason(key="credential", words=why),)
    return found
