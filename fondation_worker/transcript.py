"""The Claude CLI's stream-json, read without I/O: bytes in, events out.

One JSON object stands on each line. Lines are decoded in two steps, first what they are, then what
they hold. New versions bring new kinds of lines and fields: what is not known is counted, what is
broken is counted, and neither ends a run.
"""

import json
from dataclasses import dataclass
from typing import Any

import msgspec

from fondation_worker.result import Share, Usage, well_formed

MODEL_LIMIT = 128  # characters that Convex takes
LARGEST_FIGURE = 2**53  # what a float, and so Convex, can count to
LINE_LIMIT = 16 * 1024 * 1024  # bytes; a longer line is dropped and counted as broken


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The CLI is up."""

    model: str
    version: str  # the CLI's


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """Claude looks at something: a tool of the CLI begins."""

    id: str
    name: str
    subject: str  # the path or pattern, as Claude gave it


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolDone:
    """A tool has ended, well or not."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrote:
    """Claude wrote some text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrying:
    """The CLI met an API error and will try again by itself."""

    status: int | None
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The CLI's own account of the run. Not proof of success: see `Account.success`."""

    subtype: str
    is_error: bool
    text: str
    status: int | None  # of the API error that ended the run
    usage: Usage
    shares: tuple[Share, ...] = ()  # of the models that took part


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitReached:
    """The model's rate limit refused a request."""

    resets_at: float | None  # seconds since the epoch


Event = Started | ToolCall | ToolDone | Wrote | Retrying | LimitReached | Finished


class Transcript:
    """Turns the CLI's standard output, in chunks of any size, into events."""

    def __init__(self, line_limit: int = LINE_LIMIT) -> None:
        self._line_limit = line_limit
        self.unknown = 0  # lines of a kind that is not known
        self.broken = 0  # lines that are no JSON object, or too long
        self._parts: list[bytes] = []
        self._held = 0  # bytes in _parts
        self._dropping = False  # inside a line that is too long

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events of the lines that *chunk* completed, in order."""
        *ends, rest = chunk.split(b"\n")
        events: list[Event] = []
        for end in ends:
            self._hold(end)
            line, self._parts, self._held = b"".join(self._parts), [], 0
            if self._dropping:
                self._dropping = False
            elif line.strip():
                events += self._decode(line)
        self._hold(rest)
        return events

    def _hold(self, part: bytes) -> None:
        """Keep *part* of an unfinished line, unless the line has grown too long."""
        if self._dropping or not part:
            return
        self._parts.append(part)
        self._held += len(part)
        if self._held > self._line_limit:
            self._parts, self._held, self._dropping = [], 0, True
            self.broken += 1

    def _decode(self, line: bytes) -> list[Event]:
        try:
            return self._events(line)
        except RecursionError:  # deeper than any of ours; a model may call a tool with such
            self.broken += 1
            return []
        except msgspec.MsgspecError:
            pass
        try:  # JavaScript prints lone surrogates, which only a lenient decoder takes
            repaired = well_formed(json.dumps(json.loads(line), ensure_ascii=False)).encode()
            return self._events(repaired)
        except (ValueError, RecursionError, msgspec.MsgspecError):
            self.broken += 1
            return []

    def _events(self, line: bytes) -> list[Event]:  # noqa: PLR0911 one for each kind of line
        head = _head.decode(line)
        match head.type, head.subtype:
            case "system", "init":
                init = _init.decode(line)
                return [Started(model=init.model, version=init.claude_code_version)]
            case "system", "api_retry":
                retry = _retry.decode(line)
                return [Retrying(status=retry.error_status, error=retry.error or "unknown")]
            case "assistant", _:
                return _blocks(_assistant.decode(line))
            case "user", _:
                return _results(line)
            case "result", _:
                return [_finished(_result.decode(line))]
            case "rate_limit_event", _:
                return _limits(_rate_limit.decode(line))
            case (("stream_event" | "system"), _):
                return []
        self.unknown += 1
        return []


# What the lines hold. Every field but the kind is optional: versions differ.


class _Head(msgspec.Struct):
    type: str
    subtype: str | None = None


class _Init(msgspec.Struct):
    model: str = "unknown"
    claude_code_version: str = "unknown"


class _Retry(msgspec.Struct):
    error_status: int | None = None
    error: str | None = None


class _LimitInfo(msgspec.Struct, rename="camel"):
    status: str = ""
    resets_at: float | None = None


class _RateLimit(msgspec.Struct):
    rate_limit_info: _LimitInfo = msgspec.field(default_factory=_LimitInfo)


class _Block(msgspec.Struct):
    type: str
    id: str = ""
    name: str = ""
    input: dict[str, Any] = {}


class _Message(msgspec.Struct):
    content: list[_Block] = []


class _Assistant(msgspec.Struct):
    message: _Message


class _Answer(msgspec.Struct):
    type: str = ""
    tool_use_id: str = ""


class _Answers(msgspec.Struct):
    content: list[_Answer] | str = ""


class _User(msgspec.Struct):
    message: _Answers = msgspec.field(default_factory=_Answers)


# Figures are whatever they are: none of them may cost a finished result.
class _Tokens(msgspec.Struct):
    input_tokens: Any = None
    output_tokens: Any = None
    cache_read_input_tokens: Any = None
    cache_creation_input_tokens: Any = None


class _Result(msgspec.Struct):
    subtype: str = ""
    is_error: bool = True
    result: str | None = None
    api_error_status: Any = None
    num_turns: Any = None
    duration_ms: Any = None
    total_cost_usd: Any = None
    usage: Any = None
    model_usage: Any = msgspec.field(name="modelUsage", default=None)


_head = msgspec.json.Decoder(_Head)
_init = msgspec.json.Decoder(_Init)
_retry = msgspec.json.Decoder(_Retry)
_rate_limit = msgspec.json.Decoder(_RateLimit)
_assistant = msgspec.json.Decoder(_Assistant)
_user = msgspec.json.Decoder(_User)
_result = msgspec.json.Decoder(_Result)

_SUBJECTS = ("file_path", "pattern", "path")  # of Read, of Glob and Grep, of the rest


def _limits(line: _RateLimit) -> list[Event]:
    info = line.rate_limit_info
    return [LimitReached(resets_at=info.resets_at)] if info.status == "rejected" else []


def _blocks(line: _Assistant) -> list[Event]:
    events: list[Event] = []
    for block in line.message.content:
        if block.type == "tool_use":
            subjects = (block.input.get(key) for key in _SUBJECTS)
            subject = next((s for s in subjects if isinstance(s, str)), "")
            events.append(ToolCall(id=block.id, name=block.name, subject=well_formed(subject)))
        elif block.type == "text":
            events.append(Wrote())
    return events


def _results(line: bytes) -> list[Event]:
    content = _user.decode(line).message.content
    answers = content if isinstance(content, list) else []
    return [ToolDone(id=answer.tool_use_id) for answer in answers if answer.type == "tool_result"]


def _finished(line: _Result) -> Finished:
    try:
        tokens = msgspec.convert(line.usage, _Tokens)
    except msgspec.ValidationError:
        tokens = _Tokens()
    models = line.model_usage if isinstance(line.model_usage, dict) else {}
    return Finished(
        subtype=line.subtype,
        is_error=line.is_error,
        text=well_formed(line.result or ""),
        status=_whole(line.api_error_status),
        usage=Usage(
            model=", ".join(sorted(models))[:MODEL_LIMIT] or None,
            cost_usd=_figure(line.total_cost_usd),
            turns=_whole(line.num_turns),
            duration_ms=_whole(line.duration_ms),
            input_tokens=_whole(tokens.input_tokens),
            output_tokens=_whole(tokens.output_tokens),
            cache_read_tokens=_whole(tokens.cache_read_input_tokens),
            cache_creation_tokens=_whole(tokens.cache_creation_input_tokens),
        ),
        shares=tuple(_share(str(model)[:MODEL_LIMIT], models[model]) for model in sorted(models)),
    )


def _share(model: str, figures: Any) -> Share:
    """Return what *model* had; what is no figure counts for nothing."""
    known = figures if isinstance(figures, dict) else {}
    return Share(
        model=well_formed(model),
        cost_usd=_figure(known.get("costUSD")) or 0.0,
        input_tokens=_whole(known.get("inputTokens")) or 0,
        output_tokens=_whole(known.get("outputTokens")) or 0,
        cache_read_tokens=_whole(known.get("cacheReadInputTokens")) or 0,
        cache_creation_tokens=_whole(known.get("cacheCreationInputTokens")) or 0,
    )


def _figure(value: Any) -> float | None:
    """Return *value* if it is a number that can be stored, else None."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if is_number and 0 <= value <= LARGEST_FIGURE else None


def _whole(value: Any) -> int | None:
    """Return *value*, rounded, if it is a number that can be stored, else None."""
    figure = _figure(value)
    return None if figure is None else round(figure)
