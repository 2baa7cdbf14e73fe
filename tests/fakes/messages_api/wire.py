"""How the Messages API writes its answers: one JSON document, a stream of events, or an error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.fakes.messages_api.script import Status, Turn

PIECE = 48
"""Characters in one delta of a stream; few, so that a slow stream has many waits."""

ERRORS = {
    400: ("invalid_request_error", "The request is malformed"),
    401: ("authentication_error", "invalid x-api-key"),
    403: ("permission_error", "The key may not use this resource"),
    404: ("not_found_error", "Not found"),
    429: ("rate_limit_error", "This request would exceed the rate limit"),
    500: ("api_error", "Internal server error"),
    529: ("overloaded_error", "Overloaded"),
}


def message(turn: Turn, *, model: str, number: int, read: int) -> dict[str, Any]:
    """Return the turn as the whole answer to request `number`, which was `read` characters long."""
    content: list[dict[str, Any]] = [{"type": "text", "text": turn.text}] if turn.text else []
    content += [
        {"type": "tool_use", "id": f"toolu_{number}_{n}", "name": call.tool, "input": call.input}
        for n, call in enumerate(turn.calls)
    ]
    return {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": "tool_use" if turn.calls else "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": tokens(read),
            "output_tokens": tokens(len(json.dumps(content))),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
        },
    }


def tokens(characters: int) -> int:
    """Return about how many tokens a text of this length has."""
    return max(1, characters // 4)


def stream(answer: dict[str, Any]) -> Iterator[bytes]:
    """Yield the server-sent events of an answer, one by one."""
    usage = answer["usage"]
    opened = {**answer, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    yield _event("message_start", message=opened)
    yield _event("ping")
    for index, block in enumerate(answer["content"]):
        yield from _block(index, block)
    yield _event(
        "message_delta",
        delta={"stop_reason": answer["stop_reason"], "stop_sequence": None},
        usage={"output_tokens": usage["output_tokens"]},
    )
    yield _event("message_stop")


def halves(answer: dict[str, Any]) -> list[bytes]:
    """Return an answer that is not streamed, in two pieces, so that it can break between them."""
    text = json.dumps(answer).encode()
    return [text[: len(text) // 2], text[len(text) // 2 :]]


def _block(index: int, block: dict[str, Any]) -> Iterator[bytes]:
    if block["type"] == "text":
        empty, kind, field, text = {**block, "text": ""}, "text_delta", "text", block["text"]
    else:
        # A tool's input opens as an empty object and is streamed as pieces of its JSON text.
        text = json.dumps(block["input"])
        empty, kind, field = {**block, "input": {}}, "input_json_delta", "partial_json"
    yield _event("content_block_start", index=index, content_block=empty)
    for start in range(0, len(text), PIECE):
        delta = {"type": kind, field: text[start : start + PIECE]}
        yield _event("content_block_delta", index=index, delta=delta)
    yield _event("content_block_stop", index=index)


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def error(code: int, text: str = "") -> dict[str, Any]:
    """Return the body of an error answer."""
    kind, usual = ERRORS.get(code, ("api_error", "Error"))
    return {"type": "error", "error": {"type": kind, "message": text or usual}}


def error_headers(status: Status, now: datetime) -> dict[str, str]:
    """Return the headers that tell when a rate limit ends, for API keys and for subscriptions."""
    if status.reset_in is None:
        return {}
    reset = now + timedelta(seconds=status.reset_in)
    return {
        "retry-after": str(round(status.reset_in)),
        "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-requests-reset": reset.astimezone(UTC).isoformat(timespec="seconds"),
        "anthropic-ratelimit-unified-status": "rejected",
        "anthropic-ratelimit-unified-reset": str(round(reset.timestamp())),
        "anthropic-ratelimit-unified-representative-claim": "five_hour",
    }
