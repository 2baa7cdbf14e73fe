"""The scripted Messages API as an HTTP server on loopback."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from aiohttp import web

from tests.fakes.messages_api import wire
from tests.fakes.messages_api.conversation import Conversation
from tests.fakes.messages_api.play import fault_for, turn_for
from tests.fakes.messages_api.script import Drop, Explore, Fault, Rule, Script, Stall, Status, Turn

LARGEST_REQUEST = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request that the server saw."""

    method: str
    path: str
    credential: tuple[str, str] | None
    """The header that carried it, `x-api-key` or `authorization`, and its value."""
    model: str = ""
    prompt: str = ""
    messages: int = 0
    turn: int = 0
    """The number of answers that the conversation had when it came; 0 is a run that begins."""
    results: int = 0
    """The number of tool results in it."""
    body: str = ""
    """All of it, to search for what must not be there."""
    at: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class ScriptedApi:
    """A running server, and what it was asked."""

    rules: Sequence[Rule]
    url: str = ""
    requests: list[Request] = field(default_factory=list)
    served: list[str] = field(default_factory=list)
    """The prompts whose last answer was given whole, in the order of their ends."""
    _met: Counter[tuple[int, int]] = field(default_factory=Counter)
    """How many requests came for each rule and turn."""

    def asked(self, prompt: str = "") -> list[Request]:
        """Return the requests for an answer to a prompt that contains this, oldest first."""
        return [
            request
            for request in self.requests
            if request.path == "/v1/messages" and prompt in request.prompt
        ]

    def application(self) -> web.Application:
        """Return the routes of the server."""
        application = web.Application(client_max_size=LARGEST_REQUEST)
        application.router.add_post("/v1/messages", self._messages)
        application.router.add_post("/v1/messages/count_tokens", self._count_tokens)
        application.router.add_route("*", "/{path:.*}", self._unknown)
        return application

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        body = await request.text()
        try:
            document = json.loads(body)
            conversation = Conversation.from_document(document)
            turn, fault = self._next(conversation)
        except (LookupError, TypeError, ValueError) as failure:
            self._record(request)
            return _refused(Status(code=400, message=f"not in the script: {failure}"))
        self._record(request, conversation, body)
        await asyncio.sleep(turn.delay)
        if isinstance(fault, Status):
            return _refused(fault)
        answer = wire.message(
            turn, model=conversation.model, number=len(self.requests), read=len(body)
        )
        if document.get("stream"):
            pieces, kind = list(wire.stream(answer)), "text/event-stream"
        else:
            pieces, kind = wire.halves(answer), "application/json"
        response = web.StreamResponse(headers={"content-type": kind})
        await _send(request, response, pieces, fault, turn.pace)
        if fault is None and not turn.calls:
            self.served.append(conversation.prompt)
        return response

    def _next(self, conversation: Conversation) -> tuple[Turn, Fault | None]:
        """Return what to answer and what goes wrong with it; LookupError when nothing fits."""
        for number, rule in enumerate(self.rules):
            if rule.fits(conversation.prompt, conversation.model):
                turn = turn_for(rule.script, conversation)
                self._met[number, conversation.turn] += 1
                return turn, fault_for(turn.faults, self._met[number, conversation.turn])
        raise LookupError("no rule fits the prompt")

    async def _count_tokens(self, request: web.Request) -> web.Response:
        body = await request.text()
        self._record(request)
        return web.json_response({"input_tokens": wire.tokens(len(body))})

    async def _unknown(self, request: web.Request) -> web.Response:
        self._record(request)
        return _refused(Status(code=404))

    def _record(
        self, request: web.Request, conversation: Conversation | None = None, body: str = ""
    ) -> None:
        seen = Request(method=request.method, path=request.path, credential=_credential(request))
        if conversation:
            seen = replace(
                seen,
                model=conversation.model,
                prompt=conversation.prompt,
                messages=conversation.messages,
                turn=conversation.turn,
                results=len(conversation.results),
                body=body,
            )
        self.requests.append(seen)


def _credential(request: web.Request) -> tuple[str, str] | None:
    for name in ("x-api-key", "authorization"):
        if name in request.headers:
            return name, request.headers[name]
    return None


def _refused(status: Status) -> web.Response:
    return web.json_response(
        wire.error(status.code, status.message),
        status=status.code,
        headers=wire.error_headers(status, datetime.now(UTC)),
    )


async def _send(
    request: web.Request,
    response: web.StreamResponse,
    pieces: list[bytes],
    fault: Stall | Drop | None,
    pace: float,
) -> None:
    """Send the pieces one by one, as far as the fault lets them come."""
    if fault is None or fault.at != "start":
        await response.prepare(request)
    if fault is not None:
        pieces = pieces[: len(pieces) // 2] if fault.at == "middle" else []
    for piece in pieces:
        await response.write(piece)
        await asyncio.sleep(pace)
    if isinstance(fault, Stall):
        # Nobody sets it: aiohttp cancels the wait when the client goes or the server stops.
        await asyncio.Event().wait()
    if isinstance(fault, Drop) and request.transport is not None:
        request.transport.close()


@asynccontextmanager
async def scripted_api(
    script: Script | Explore | Sequence[Rule], *, port: int = 0
) -> AsyncIterator[ScriptedApi]:
    """Serve the script, or the first rule that fits, on loopback until the block ends.

    Nothing outlives the block: connections are closed and answers still on their way are cancelled.
    """
    rules = (Rule(script=script),) if isinstance(script, Script | Explore) else tuple(script)
    api = ScriptedApi(rules)
    runner = web.AppRunner(
        api.application(), handler_cancellation=True, access_log=None, shutdown_timeout=0.1
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        api.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield api
    finally:
        await runner.cleanup()
