"""What a run's events say, in words: for the job's progress, and for its log."""

from datetime import UTC, datetime
from pathlib import Path

from fondation_worker.transcript import (
    Event,
    Finished,
    LimitReached,
    Retrying,
    Started,
    ToolCall,
    Wrote,
)

SUBJECT_LIMIT = 200  # characters
_VERBS = {"Read": "reading", "Glob": "listing", "Grep": "searching for"}


def in_words(event: Event, tree: Path) -> str | None:
    """Return what *event* says about the run's progress, for people."""
    match event:
        case Started():
            return f"Claude is reading ({event.model})"
        case ToolCall(name="Grep"):  # what it looks for is in the job's log: it may quote anything
            return "searching"
        case ToolCall():
            return _looking(event, tree)
        case Wrote():
            return "writing"
        case Retrying() | LimitReached():
            return "waiting for the model's service"
    return None


def for_log(event: Event, tree: Path) -> tuple[str, str] | None:
    """Return the line, level and text, that *event* adds to the job's log."""
    match event:
        case Started():
            return "info", f"the Claude CLI {event.version} has started, model {event.model}"
        case ToolCall():
            return "info", _looking(event, tree)
        case Retrying():
            status = f"{event.status} ({event.error})" if event.status else event.error
            return "info", f"the model's service answered {status}; the CLI tries again"
        case LimitReached():
            return "error", f"the model's rate limit is used up{_until(event.resets_at)}"
        case Finished():
            level = "error" if event.is_error else "info"
            return level, f"the run reported {event.subtype}: {event.usage.in_words()}"
    return None


def _looking(call: ToolCall, tree: Path) -> str:
    verb = _VERBS.get(call.name)
    subject = call.subject.removeprefix(f"{tree}/")[:SUBJECT_LIMIT]
    return f"{verb} {subject}" if verb else f"using {call.name}"


def _until(moment: float | None) -> str:
    """Return words for when a limit ends; what is no time on earth is left out."""
    try:
        return f" until {datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC" if moment else ""
    except (ValueError, OverflowError, OSError):
        return ""
