"""One line that says how a worker is, for `systemctl status`: pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from fondation_worker.words import length

LONGEST_REASON = 200  # characters
A_MOMENT = 60  # seconds in which "just now" says enough
SEPARATOR = " · "


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What there is to say."""

    ending: str | None  # how this worker is about to end; None: it is not
    unreachable: bool  # Convex does not answer
    trouble: str | None  # it answers, and not with what was asked
    push: bool
    busy: int
    slots: int
    reasons: tuple[str, ...]  # that are none of Convex's
    no_port: str | None
    past: tuple[float, str] | None  # how many seconds ago the last job ended, and how


def in_one_line(now: Situation) -> str:
    """Return the line, what matters most first; by itself its text changes once a minute."""
    return SEPARATOR.join(_parts(now))


def _parts(now: Situation) -> Iterator[str]:
    if now.unreachable:
        yield "Convex unreachable, retrying"
    if now.ending:
        yield now.ending
    if now.reasons:
        yield f"claiming nothing: {now.reasons[0][:LONGEST_REASON]}"
    yield f"{now.busy} of {now.slots} slots busy"
    if now.trouble and not now.unreachable:
        yield f"convex: {now.trouble[:LONGEST_REASON]}"
    elif not now.unreachable:
        yield f"convex ok ({'push' if now.push else 'poll'})"
    if now.no_port:
        yield now.no_port
    if now.past:
        yield f"last job {_ago(now.past[0])}: {now.past[1]}"


def _ago(seconds: float) -> str:
    """Return when that was, in words that do not change with each second."""
    if seconds < A_MOMENT:
        return "just now"
    return f"{length(seconds - seconds % A_MOMENT)} ago"
