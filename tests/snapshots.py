"""Snapshots of workers that never ran, for what only shows one."""

from dataclasses import replace
from typing import Any

from fondation_worker.snapshot import (
    ClaudeState,
    ConvexState,
    Disk,
    Family,
    Host,
    OutboxState,
    Running,
    Snapshot,
)

NOW = 1_790_000_000.0  # seconds since the epoch

WELL = Snapshot(
    worker_id="w",
    instance="w-1",
    version="1.2.3",
    now=NOW,
    uptime=90.5,
    last_job_at=None,
    slots=2,
    lease_time=300.0,
    job_timeout=3600.0,
    stall_time=600.0,
    running=(),
    paused=None,
    convex=ConvexState(is_reachable=True, trouble=None, answered=3.0, push=True, skew=0.1234),
    claude=ClaudeState(version="2.1.0", credential="untested", paused=None, limit_resets_at=None),
    host=Host(
        load=(0.1, 0.2, 0.3),
        cores=2,
        memory=4 << 30,
        memory_free=3 << 30,
        disks=(
            Disk(setting="TEMP_DIR", path="/var/tmp/w", free=9 << 30),  # noqa: S108 a name only
            Disk(setting="STATE_DIR", path="/var/lib/w", free=8 << 30),
        ),
        disk_floor=2 << 30,
    ),
    family=Family(
        rss=40 << 20, anonymous=20 << 20, data=80 << 20, children=1, children_rss=30 << 20, cpu=1.5
    ),
    outbox=OutboxState(waiting=0, oldest=None, unkept=0, refused=0, elsewhere=0),
    lateness=0.002,
    reasons=(),
)

JOB = Running(
    job_id="j1",
    attempt=2,
    repository="owner/name",
    step="analyzing",
    step_number=2,
    steps=3,
    progress="reading src/app.py",
    started_at=NOW - 60,
    age=60.0,
    silent=4.0,
    slack=40.0,
)


def worker(**changes: Any) -> Snapshot:
    """Return a worker that is well, but for *changes*."""
    return replace(WELL, **changes)
