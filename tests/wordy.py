"""Workers that have everything to tell, in any words, for tests of what shows people a worker."""

from fondation_worker.admission import Reason
from fondation_worker.history import History, Past
from fondation_worker.snapshot import (
    ClaudeState,
    ConvexState,
    Disk,
    Host,
    OutboxState,
    Running,
    Snapshot,
)
from tests.snapshots import NOW, worker

GIB = 2**30


def running(text: str = "some-text") -> Running:
    """Return a job that runs, with *text* wherever somebody else writes."""
    return Running(
        job_id=text, attempt=1, repository=text, step=text, step_number=2, steps=3, progress=text,
        started_at=NOW - 190, age=190, silent=45, slack=200,
    )  # fmt: skip


def wordy(text: str = "some-text", *, jobs: int = 1) -> Snapshot:
    """Return a worker with two slots that has everything to tell, in words that are *text*."""
    return worker(
        worker_id=text, instance=text, version=text, uptime=7300, last_job_at=NOW - 190,
        running=(running(text),) * jobs, paused=text,
        convex=ConvexState(is_reachable=False, trouble=text, answered=90, push=False, skew=-3),
        claude=ClaudeState(version=text, credential=text, paused=90, limit_resets_at=NOW + 600),
        host=Host(
            load=(0.5, 0.25, 0.125), cores=2, memory=8 * GIB, memory_free=GIB,
            disks=(Disk(setting=text, path=text, free=GIB),), disk_floor=2 * GIB,
        ),
        outbox=OutboxState(waiting=3, oldest=90, unkept=1, refused=1, elsewhere=1),
        lateness=2, reasons=(Reason(key="disk", words=text),),
    )  # fmt: skip


def past(text: str = "some-text", **changes: object) -> Past:
    """Return an attempt that failed, in words that are *text*."""
    values = {"outcome": text, "error_class": text, "message": text} | changes
    return Past(
        ended_at=NOW - 60, job_id=text, attempt=1, repository=text, seconds=90, dollars=0.5,
        **values,  # type: ignore[arg-type]
    )  # fmt: skip


def history(*ended: Past) -> History:
    """Return a history of these."""
    kept = History()
    for one in ended:
        kept.add(one)
    return kept
