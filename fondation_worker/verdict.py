"""What a failed attempt means for its job and for this worker: one pure table.

What becomes of the job is decided by Convex from the failure class (`docs/protocol.md`); here is
decided what this worker says, and whether it claims on.
"""

from dataclasses import dataclass

from fondation_worker.errors import CredentialRefused, JobError, OwnBug, RateLimited, Wait

MESSAGE_LIMIT = 16_000  # characters; Convex cuts at 16 KiB
_FIRST_PAUSE = {CredentialRefused: 60.0, RateLimited: 30.0}  # seconds
_LONGEST_PAUSE = 3600.0
_LONGEST_RESET = 7 * 86400.0  # the model's longest limit is weekly


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to tell Convex, and how long this worker claims nothing."""

    failure: str
    message: str
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
        return Verdict(failure=OwnBug.failure, message=text, pause=0.0)
    return Verdict(
        failure=error.failure,
        message=str(error)[:MESSAGE_LIMIT],
        pause=_pause(error, in_a_row, now) if isinstance(error, Wait) else 0.0,
    )


def _pause(error: Wait, in_a_row: int, now: float) -> float:
    """Return the seconds to wait: what the service said, else doubling from the first pause."""
    if error.until is not None:
        return min(max(error.until - now, 1.0), _LONGEST_RESET)
    first = _FIRST_PAUSE.get(type(error), 10.0)
    return float(min(first * 2 ** min(in_a_row - 1, 16), _LONGEST_PAUSE))
