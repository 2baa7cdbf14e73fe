"""A Messages API on loopback that gives one canned answer, and remembers what it was asked.

So the real Claude CLI does a whole run: no token is spent, and no credential is there to be lost.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

PAUSE = 0.5  # seconds before an answer: a server or a hook that was started may take a moment
LARGEST_REQUEST = 16 * 1024 * 1024  # bytes


@dataclass(slots=True)
class ScriptedModel:
    """What listens at `url`."""

    answer: str
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)  # what it was sent, parsed
    calls: int = 0  # of any kind

    async def reply(self, request: web.Request) -> web.StreamResponse:
        """Answer a request for a message as a stream of events, and no other request."""
        self.calls += 1
        if request.method != "POST" or request.path != "/v1/messages":
            return web.json_response(_NOT_FOUND, status=404)
        try:
            document = json.loads(await request.text())
        except ValueError:
            return web.json_response(_NOT_FOUND, status=400)
        self.asked.append(document)
        await asyncio.sleep(PAUSE)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for event in _events(self.answer, str(document.get("model"))):
            kind = event["type"]
            await response.write(f"event: {kind}\ndata: {json.dumps(event)}\n\n".encode())
        return response


@asynccontextmanager
async def scripted_model(answer: str) -> AsyncIterator[ScriptedModel]:
    """Listen on a free port of 127.0.0.1 and give *answer* until the block ends."""
    model = ScriptedModel(answer)
    application = web.Application(client_max_size=LARGEST_REQUEST)
    application.router.add_route("*", "/{path:.*}", model.reply)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        model.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield model
    finally:
        await runner.cleanup()


def _events(text: str, model: str) -> Iterator[dict[str, Any]]:
    """Yield what a streamed answer consists of."""
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    yield {"type": "message_start", "message": message}
    yield {"type": "content_block_start", "index": 0, "content_block": _text("")}
    delta = {"type": "text_delta", "text": text}
    yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    yield {"type": "message_delta", "delta": end, "usage": {"output_tokens": 1}}
    yield {"type": "message_stop"}


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


_NOT_FOUND = {"type": "error", "error": {"type": "not_found_error", "message": "Not found"}}
