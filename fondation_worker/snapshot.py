"""How a worker is at one moment: values only, for /health, /metrics and the status page.

Whoever makes one reads memory and a few files below /proc; nothing here waits for Convex, for a
job or for a disk. Times are seconds, sizes bytes, unless a name says otherwise. What a repository
or a model wrote stands in `Running.progress` only, cut short and redacted.
"""

from collections.abc import Callable
from dataclasses import dataclass

from fondation_worker.admission import Level, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """One job that runs."""

    job_id: str
    attempt: int
    repository: str
    step: str  # cloning, analyzing or gathering
    step_number: int  # from 1
    steps: int
    progress: str
    started_at: float  # since the epoch, by Convex's clock
    age: float
    silent: float | None  # since the run of Claude last gave a sign of life; None: none runs
    slack: float | None  # until the work is cancelled unless renewed; None: a result is there


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvexState:
    """How it stands with Convex."""

    is_reachable: bool
    trouble: str | None  # why it last did not do what it was asked for
    answered: float | None  # how long ago it last did; None: not yet
    push: bool
    skew: float | None  # how far its clock is ahead of this host's; None: not known yet


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaudeState:
    """How it stands with the Claude CLI and the model's service."""

    version: str | None  # None: not known yet
    credential: str  # untested, accepted or refused
    paused: float | None  # how long its service is left alone still
    limit_resets_at: float | None  # since the epoch, as the service last said


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """What is left of the file system below one directory."""

    setting: str  # TEMP_DIR or STATE_DIR
    path: str
    free: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What this host has."""

    load: tuple[float, float, float]  # of 1, 5 and 15 minutes
    cores: int
    memory: int
    memory_free: int
    disks: tuple[Disk, ...]
    disk_floor: int  # DISK_FLOOR


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What the worker and its children use: git, the Claude CLI, the child that listens."""

    rss: int  # of the worker alone
    anonymous: int  # of that: what stands in no file
    data: int  # what the worker has reserved for data
    children: int  # how many
    children_rss: int
    cpu: float  # of all of them, those that are over included; only grows


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxState:
    """The finished results that Convex has not taken."""

    waiting: int
    oldest: float | None  # how long the oldest has waited
    unkept: int  # of those that wait: the disk refused them, they are in memory only
    refused: int  # Convex has refused for good; kept for a week
    elsewhere: int  # belong to another deployment


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One look at the worker."""

    worker_id: str
    instance: str  # this process
    version: str
    now: float  # since the epoch, by Convex's clock as far as it is known
    uptime: float
    last_job_at: float | None  # when a job was last claimed, since the epoch
    slots: int
    lease_time: float  # LEASE_TIME
    job_timeout: float  # JOB_TIMEOUT
    stall_time: float  # STALL_TIME
    running: tuple[Running, ...]  # the oldest first
    paused: str | None  # the operator's reason
    convex: ConvexState
    claude: ClaudeState
    host: Host
    family: Family
    outbox: OutboxState
    lateness: float  # the longest that the event loop stood still within the last minutes
    reasons: tuple[Reason, ...]  # what is not as it should be; none: healthy

    @property
    def level(self) -> Level:
        """How well it is: as bad as the worst reason."""
        return max((reason.level for reason in self.reasons), default=Level.HEALTHY)

    @property
    def status(self) -> str:
        """The same in the word of /health: `healthy`, `degraded` or `unhealthy`."""
        return self.level.word

    @property
    def in_the_way(self) -> tuple[Reason, ...]:
        """What keeps this worker from taking a job now; none: it is ready."""
        return tuple(reason for reason in self.reasons if reason.blocks)

    @property
    def slack(self) -> float | None:
        """The least of all leases; None: no job works under one."""
        return min((job.slack for job in self.running if job.slack is not None), default=None)


Look = Callable[[], Snapshot]
"""Looks at the worker; waits for nobody."""
