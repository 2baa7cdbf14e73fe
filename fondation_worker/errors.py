"""Everything that can go wrong on purpose, in one tree, named for what happens next.

    WorkerError
    ├── BadSettings            the operator's to mend; nothing was started (exit status 78)
    ├── OperatorError          an operator's command cannot do what it was asked for
    │   ├── InTheWay, NoWorker, JobEndedBadly
    ├── LeaseLost              the job is somebody else's now: kill the run, write nothing
    ├── ConvexError            a call to Convex did not do what was asked
    │   ├── Unreachable            outcome unknown: ask again with the same arguments
    │   │   └── FunctionFailed         Convex answered, the function did not: is it deployed?
    │   └── Refused                a definite no; asking again will not help
    │       └── NotStaged              `complete` misses documents; stage them and ask again
    └── JobError               ends this attempt; `failure` names its class for Convex
        ├── GiveUp                 another attempt would end the same way
        │   ├── InvalidJob, RepositoryMissing, RefMissing, RepositoryEmpty, TooLarge, TokenUnusable
        ├── Wait                   not the job's fault: again later, no attempt spent
        │   ├── RateLimited, Overloaded, CredentialRefused
        └── TryAgain               another attempt may pass; this one is spent
            ├── CloneFailed, ClaudeFailed, NoResult, TimedOut, Stalled, OutOfMemory, Crashed
            ├── DiskTrouble, OwnBug

The texts go to the job's row, where the product shows them to its users: each says what happened,
where, and what to do. None may carry a secret.
"""

from typing import ClassVar


class WorkerError(Exception):
    """The root of every error that this program raises on purpose."""


class BadSettings(WorkerError):
    """Settings that cannot be used; carries every fault at once, in words."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class OperatorError(WorkerError):
    """An operator's command cannot do what it was asked for; the text says what to do."""


class InTheWay(OperatorError):
    """Files that would be written are there already."""


class NoWorker(OperatorError):
    """No worker on this host answers."""


class JobEndedBadly(OperatorError):
    """A job that was waited for ended without a result."""


class LeaseLost(WorkerError):
    """The lease is over: `expired`, `superseded`, `canceled`, `settled`, `completed` or `gone`."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the lease is lost: {reason}")
        self.reason = reason


class ConvexError(WorkerError):
    """A call to Convex did not do what was asked."""


class Unreachable(ConvexError):
    """No answer that could be understood: whether the call was carried out is unknown."""


class FunctionFailed(Unreachable):
    """Convex answered, but not with what the function promises: not deployed, older, or at fault.

    A production deployment does not tell which. For most callers it is as good as no answer.
    """


class Refused(ConvexError):
    """Convex answered a definite no; `code` is the protocol's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.message = message


class NotStaged(Refused):
    """`complete` named documents that are not staged; `missing` holds their indexes."""

    def __init__(self, missing: tuple[int, ...]) -> None:
        super().__init__("not_staged", f"{len(missing)} documents are missing")
        self.missing = missing


class JobError(WorkerError):
    """Ends an attempt at a job."""

    failure: ClassVar[str]
    """The class that Convex is told; it decides what becomes of the job."""

    def __init__(self, message: str, *, said: str = "") -> None:
        """*said* is how the CLI or a model put it: it may quote the repository or the prompt."""
        super().__init__(f"{message}: {said}" if said else message)
        self.own = message  # what may be shown to whoever reaches the worker's port


class GiveUp(JobError):
    """Another attempt would end the same way."""


class InvalidJob(GiveUp):
    """The job names something that cannot be analysed."""

    failure = "invalid_job"


class RepositoryMissing(GiveUp):
    """There is no such repository, or this worker may not read it."""

    failure = "repository_missing"


class RefMissing(GiveUp):
    """The repository has no such branch, tag, commit or folder."""

    failure = "ref_missing"


class RepositoryEmpty(GiveUp):
    """The repository has no commit, or the commit no file."""

    failure = "repository_empty"


class TooLarge(GiveUp):
    """The repository is larger than this worker takes: bytes, files, depth or names."""

    failure = "too_large"


class TokenUnusable(GiveUp):
    """The stored GitHub token of the job's user is in a form that cannot be used."""

    failure = "token_unusable"


class Wait(JobError):
    """Not the job's fault: it may be tried again later without an attempt being spent.

    The whole worker waits until *until* (seconds since the epoch, as the service said it) before it
    claims again, because every job would meet the same; None leaves that to its own backoff.
    """

    def __init__(self, message: str, *, until: float | None = None) -> None:
        super().__init__(message)
        self.until = until


class RateLimited(Wait):
    """The model's rate limit is used up."""

    failure = "rate_limited"


class Overloaded(Wait):
    """The model's service has no capacity now."""

    failure = "overloaded"


class CredentialRefused(Wait):
    """The model's service refused this worker's credential."""

    failure = "credential_refused"


class TryAgain(JobError):
    """The world was unwell: another attempt may pass."""


class CloneFailed(TryAgain):
    """Git could not fetch the repository."""

    failure = "clone_failed"


class ClaudeFailed(TryAgain):
    """The Claude CLI ended without a success."""

    failure = "claude_failed"


class NoResult(TryAgain):
    """Claude ended well but wrote nothing."""

    failure = "no_result"


class TimedOut(TryAgain):
    """The run took longer than the job's time limit."""

    failure = "timeout"


class Stalled(TryAgain):
    """The run gave no sign of life for too long."""

    failure = "stalled"


class OutOfMemory(TryAgain):
    """The host's or the run's memory was used up."""

    failure = "out_of_memory"


class Crashed(TryAgain):
    """The worker died during the attempt; its next life says so."""

    failure = "crash"


class DiskTrouble(TryAgain):
    """This host's disk refused a write: full, read-only, or out of inodes."""

    failure = "disk"


class OwnBug(TryAgain):
    """A fault of this program; its traceback is in the log."""

    failure = "internal"
