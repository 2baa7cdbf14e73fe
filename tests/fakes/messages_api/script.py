"""What the scripted Messages API answers, as data.

A `Script` is a list of turns: what the model says in its first answer, in its second, and so on.
A `Rule` says which conversations a script is for. A turn may be preceded by faults: things that go
wrong before it is said. All of it can be written as JSON; `rules_from_json` reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import msgspec

Moment: TypeAlias = Literal["start", "headers", "middle"]
"""How far an answer comes before it breaks: not at all, the HTTP headers, or half of its stream."""


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a script; in JSON, a field that it does not have is refused."""


class Status(Value, frozen=True, tag="status"):
    """Answer with an HTTP error, as the real API words it."""

    code: int
    message: str = ""
    reset_in: float | None = None
    """Seconds until a rate limit ends, told in the headers that the real API uses."""
    times: int | None = 1
    """How many requests meet it; None means all."""


class Stall(Value, frozen=True, tag="stall"):
    """Come as far as `at`, then send nothing until the client goes away."""

    at: Moment = "start"
    times: int | None = 1


class Drop(Value, frozen=True, tag="drop"):
    """Come as far as `at`, then close the connection."""

    at: Moment = "start"
    times: int | None = 1


Fault: TypeAlias = Status | Stall | Drop


class Call(Value, frozen=True):
    """A call of one of the CLI's tools."""

    tool: str
    input: dict[str, Any]


class Turn(Value, frozen=True):
    """One answer of the model: some text, then calls of tools. Without calls it is the last.

    In `text`, `{result 1}` stands for what the conversation's first tool call returned,
    `{result 2}` for the second. Faults are met in order by the first requests for this turn,
    counted over all conversations of the rule: a CLI that starts again is a new conversation.
    """

    text: str = ""
    calls: tuple[Call, ...] = ()
    faults: tuple[Fault, ...] = ()
    delay: float = 0
    """Seconds before the answer begins."""
    pace: float = 0
    """Seconds between two pieces of the streamed answer."""


class Script(Value, frozen=True, tag="script"):
    """These turns, one after the other; who asks for one more is answered 400."""

    turns: tuple[Turn, ...]


class Explore(Value, frozen=True, tag="explore"):
    """Look at the repository through the CLI's tools and write a truthful overview of it."""

    delay: float = 0
    """Seconds before each answer, so that people can watch."""
    faults: tuple[Fault, ...] = ()
    """Met before the first turn."""


class Rule(Value, frozen=True):
    """The script for conversations whose prompt and model's name contain these texts."""

    script: Script | Explore
    prompt: str = ""
    model: str = ""

    def fits(self, prompt: str, model: str) -> bool:
        """Tell whether the rule is for a conversation with this prompt and model."""
        return self.prompt in prompt and self.model in model


def say(text: str, *faults: Fault) -> Script:
    """Return the script that meets the faults, says the text, and is done."""
    return Script(turns=(Turn(text=text, faults=faults),))


def when(prompt: str, script: Script | Explore) -> Rule:
    """Return the rule that gives the script to conversations whose prompt contains `prompt`."""
    return Rule(prompt=prompt, script=script)


def rules_from_json(text: bytes) -> Sequence[Rule]:
    """Read a list of rules; msgspec.ValidationError says what is wrong and where."""
    return msgspec.json.decode(text, type=tuple[Rule, ...])
