"""What a failed attempt means for its job and for this worker: one pure table.

What becomes of the job is decided by Convex from the failure class (`docs/protocol.md`); the table
says the same, and with it what this worker does. `docs/operations.md` shows it to operators.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from fondation_worker import errors
from fondation_worker.errors import CredentialRefused, JobError, OwnBug, RateLimited, Wait


class Action(Enum):
    """What becomes of a job, in the words of `docs/operations.md`."""

    GIVE_UP = "dead"
    WAIT = "pending, unspent"
    TRY_AGAIN = "pending, spent"
    TRY_ONCE_MORE = "pending, once more"


ACTIONS: Mapping[type[JobError], Action] = {
    errors.InvalidJob: Action.GIVE_UP,
    errors.RepositoryMissing: Action.GIVE_UP,
    errors.RefMissing: Action.GIVE_UP,
    errors.RepositoryEmpty: Action.GIVE_UP,
    errors.TooLarge: Action.GIVE_UP,
    errors.TokenUnusable: Action.GIVE_UP,
    errors.RateLimited: Action.WAIT,
    errors.Overloaded: Action.WAIT,
    errors.CredentialRefused: Action.WAIT,
    errors.CloneFailed: Action.TRY_AGAIN,
    errors.ClaudeFailed: Action.TRY_AGAIN,
    errors.NoResult: Action.TRY_ONCE_MORE,
    errors.TimedOut: Action.TRY_AGAIN,
    errors.Stalled: Action.TRY_AGAIN,
    errors.OutOfMemory: Action.TRY_AGAIN,
    errors.Crashed: Action.TRY_AGAIN,
    errors.DiskTrouble: Action.TRY_AGAIN,
    errors.OwnBug: Action.TRY_AGAIN,
}

# What an operator can do about it. Backticks stand around names.
ADVICE: Mapping[type[JobError], str] = {
    errors.InvalidJob: "mend what the text names, and enqueue anew",
    errors.RepositoryMissing: "check the URL; of a private repository, the token of the job's user",
    errors.RefMissing: "check branch, tag, commit or folder",
    errors.RepositoryEmpty: "push something",
    errors.TooLarge: "raise `REPOSITORY_SIZE_LIMIT` or `REPOSITORY_FILES_LIMIT`, then `jobs retry`",
    errors.TokenUnusable: "the user signs in to GitHub again, then `jobs retry`",
    errors.RateLimited: "wait, or use another credential",
    errors.Overloaded: "wait",
    errors.CredentialRefused: "renew the credential and reload",
    errors.CloneFailed: "when it goes on: the network, or the Git server",
    errors.ClaudeFailed: "read the end of the job's log: the CLI's standard error;"
    ' "killed from outside": somebody sent SIGKILL',
    errors.NoResult: "ask for a text in the prompt",
    errors.TimedOut: "raise `JOB_TIMEOUT` or the job's `timeoutMs`, or ask for less",
    errors.Stalled: "when it goes on: the model's service; `STALL_TIME` and `TOOL_TIME` rule it",
    errors.OutOfMemory: "the kernel killed it: fewer slots (`MAX_CONCURRENT_JOBS`) or more memory;"
    " a run takes 300 to 450 MB",
    errors.Crashed: "read the log before that start",
    errors.DiskTrouble: "make room, or mend the file system",
    errors.OwnBug: "its log has a traceback: report it",
}

MESSAGE_LIMIT = 16_000  # characters; Convex cuts at 16 KiB
# Seconds.
_FIRST_PAUSE: Mapping[type[JobError], float] = {CredentialRefused: 60.0, RateLimited: 30.0}
_LONGEST_PAUSE = 3600.0
_LONGEST_RESET = 7 * 86400.0  # the model's longest limit is weekly


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to tell Convex, and how long this worker claims nothing."""

    failure: str
    message: str
    own: str  # the message without what the CLI or a model said
    pause: float  # seconds; 0 claims on at once


def verdict(error: Exception, *, in_a_row: int, now: float) -> Verdict:
    """Decide what follows from *error*; *in_a_row* counts failures that had to wait, this included.

    *now* is seconds since the epoch, by Convex's clock: our own may be wrong.

    A bug of ours is any exception that is no JobError; its text may hold anything, so only its
    type is told.
    """
    if not isinstance(error, JobError):
        text = (
            f"the worker met a fault of its own ({type(error).__name__}); its log has the details"
        )
        return Verdict(failure=OwnBug.failure, message=text, own=text, pause=0.0)
    return Verdict(
        failure=error.failure,
        message=str(error)[:MESSAGE_LIMIT],
        own=error.own[:MESSAGE_LIMIT],
        pause=_pause(error, in_a_row, now) if ACTIONS[type(error)] is Action.WAIT else 0.0,
    )


def _pause(error: JobError, in_a_row: int, now: float) -> float:
    """Return the seconds to wait: what the service said, else doubling from the first pause."""
    if isinstance(error, Wait) and error.until is not None:
        return min(max(error.until - now, 1.0), _LONGEST_RESET)
    first = _FIRST_PAUSE.get(type(error), 10.0)
    return float(min(first * 2 ** min(in_a_row - 1, 16), _LONGEST_PAUSE))
