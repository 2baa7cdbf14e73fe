"""A request to `/v1/messages` as the conversation so far.

Every request carries the whole conversation, so the server keeps none: the number of answers
already in it tells which one is next. Several CLIs at once, or one that starts again, need no more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>\s*", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one tool call of the model returned."""

    tool: str
    input: dict[str, Any]
    text: str
    """Without the reminders that the CLI mixes in for the model."""
    failed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What the model and the CLI have said to each other."""

    model: str
    prompt: str
    messages: int
    turn: int
    """The number of answers already given."""
    results: tuple[Result, ...]
    """In the order of the calls, whatever order the CLI finished them in."""

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Conversation:
        """Read the body of a request; LookupError or TypeError when it is none."""
        messages = document["messages"]
        return cls(
            model=document["model"],
            prompt=_prompt(messages),
            messages=len(messages),
            turn=sum(message["role"] == "assistant" for message in messages),
            results=_results(messages),
        )


def _prompt(messages: list[dict[str, Any]]) -> str:
    """Return what the user wrote first, without what the CLI puts before it."""
    return REMINDER.sub("", _text(messages[0]["content"])).strip()


def _results(messages: list[dict[str, Any]]) -> tuple[Result, ...]:
    blocks = [block for message in messages for block in _blocks(message["content"])]
    returned = {block["tool_use_id"]: block for block in blocks if block["type"] == "tool_result"}
    return tuple(
        Result(
            tool=call["name"],
            input=call["input"],
            text=REMINDER.sub("", _text(returned[call["id"]].get("content", ""))),
            failed=returned[call["id"]].get("is_error", False),
        )
        for call in blocks
        if call["type"] == "tool_use" and call["id"] in returned
    )


def _blocks(content: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _text(content: str | list[dict[str, Any]]) -> str:
    return "".join(block["text"] for block in _blocks(content) if block["type"] == "text")
