"""One connection of a stranger: how much it may send, and how long it may take.

Of aiohttp this relies on: a `RequestHandler` is one connection; its parser lets `handle_error`
answer what is no request, too long a line or too many headers; its keep-alive timer ends a
connection that has no request whole for so long; after an answer it reads on for `lingering_time`
what is left of the request's body; a connection that ends cancels what was answering it
(`handler_cancellation`). What it does not limit is limited here: the time for a head, the bytes
that nobody asked for, an answer that is not taken, and how many connections there are.
"""

import asyncio
import logging
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from aiohttp import web

from fondation_worker.web.answers import refusal, refusal_in_bytes

logger = logging.getLogger(__name__)

_BAD_REQUEST = 400
_TOO_LARGE = 431
_BUSY = 503
_A_REQUEST = 8192  # bytes: no client's own request is larger


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What clients may use of this worker; times in seconds."""

    connections: int = 64  # over all sockets of a server
    streams: int = 16  # of these
    head: float = 10.0  # from connecting, or a later request's first byte, to the end of its head
    # From an answer to the next request. A Prometheus that scrapes each 15 s keeps its connection;
    # one that comes each minute holds no place meanwhile, and connects again.
    idle: float = 20.0
    answer: float = 10.0  # that an answer may wait to be taken
    linger: float = 1.0  # for the rest of a body: a close before that could destroy the answer
    end: float = 1.0  # for answers under way when the server ends
    look: float = 1.0  # between two looks at a connection
    line: int = 8190  # bytes of the request line, and of each header
    headers: int = 64
    unasked: int = 32 << 10  # bytes of a head, and of what comes before it is asked for
    unsent: int = 64 << 10  # bytes of answers that the kernel keeps; it doubles that


class Crowd:
    """The connections of a server that live now."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.live: set[Connection] = set()
        self.streaming: set[Connection] = set()  # of these
        self._silent_until = float("-inf")

    def turn_away(self, wire: asyncio.Transport, now: float) -> None:
        """Answer one connection too many, and end it; say so once a minute."""
        words = f"{self.limits.connections} connections are open already, come back later"
        if now >= self._silent_until:
            self._silent_until = now + 60
            logger.warning("HTTP: %s", words)
        with suppress(OSError):  # closed with its request unread, the answer could get lost
            os.read(wire.get_extra_info("socket").fileno(), _A_REQUEST)
        wire.write(refusal_in_bytes(_BUSY, words, retry_after(self.limits)))
        wire.close()

    def cut(self, connections: set["Connection"]) -> None:
        """End these now, whatever is on the way."""
        for connection in tuple(connections):
            connection.cut()


def retry_after(limits: Limits) -> dict[str, str]:
    """Return the header for a client that finds no place: places come back in this time."""
    return {"Retry-After": str(max(1, round(limits.head)))}


class Connection(web.RequestHandler):
    """A connection that keeps within the limits of its *crowd*, or is ended."""

    def __init__(self, server: web.Server, crowd: Crowd) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **_options(crowd.limits))
        self._crowd = crowd
        self._limits = crowd.limits
        self._wire: asyncio.Transport | None = None  # aiohttp forgets its own before it has ended
        self._look: asyncio.TimerHandle | None = None
        self._head_due: float | None = None  # by the loop's clock, as all times here
        self._last_clear = 0.0  # when no answer was waiting to be taken
        self._unasked = 0  # bytes since the last request was taken
        self._has_asked = False
        self._is_answering = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or be turned away."""
        wire, now = cast("asyncio.Transport", transport), self._loop.time()
        if len(self._crowd.live) >= self._limits.connections:
            self._crowd.turn_away(wire, now)
            return
        self._crowd.live.add(self)
        self._wire = wire
        self._head_due = now + self._limits.head
        _bound(wire.get_extra_info("socket"), self._limits)
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Make room for another."""
        self._crowd.live.discard(self)
        if self._look:
            self._look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what the client sends, unless it has sent too much that nobody asked for."""
        if self._unasked > self._limits.unasked:
            self._refuse_head()
            return
        self._unasked += len(data)
        if self._head_due is None:
            self._head_due = self._loop.time() + self._limits.head
        super().data_received(data)

    def eof_received(self) -> bool:  # type: ignore[override]  # aiohttp always closes
        """Tell whether an answer is to go out first: `nc -N` ends its side once it has asked.

        Who follows a stream ends it in this way.
        """
        is_owed = self._is_answering and self not in self._crowd.streaming
        if is_owed:
            self.close()  # once it is answered
        return is_owed

    def takes_request(self) -> None:
        """Note that a request is whole, and that its answer begins."""
        self._head_due = None
        self._unasked = 0
        self._has_asked = self._is_answering = True

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer; then none is owed."""
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self._is_answering = False

    def cut(self) -> None:
        """End it now, whatever is on the way."""
        if self._wire:
            self._wire.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 it quotes the client, who knows it
    ) -> web.StreamResponse:
        """Return the answer to what is no request; any other error ends the connection."""
        if status != _BAD_REQUEST or request.writer.output_size:
            raise ConnectionResetError from exc
        return refusal(status, "that is no HTTP request, or its head is too large")

    def _refuse_head(self) -> None:
        """Answer a head without an end, and close; cut off who got answers before."""
        if self._wire and not self._has_asked:
            self._wire.write(refusal_in_bytes(_TOO_LARGE, "that head is too large"))
            self._wire.close()
        else:
            self.cut()

    def _watch(self) -> None:
        """Cut it off when it took too long, or look again soon."""
        now = self._loop.time()
        if not self._wire or not self._wire.get_write_buffer_size():
            self._last_clear = now
        is_late = self._head_due is not None and now > self._head_due
        if is_late or now > self._last_clear + self._limits.answer:
            self.cut()
        else:
            self._look = self._loop.call_later(self._limits.look, self._watch)


def _options(limits: Limits) -> dict[str, Any]:
    """Return what aiohttp limits by itself."""
    return {
        "access_log": None,
        "keepalive_timeout": limits.idle,
        "lingering_time": limits.linger,
        "max_line_size": limits.line,
        "max_field_size": limits.line,
        "max_headers": limits.headers,
        "auto_decompress": False,  # nobody reads bodies: a bomb in one is not to be opened
    }


def _bound(one: socket.socket, limits: Limits) -> None:
    """Let the kernel keep little of what a client does not take, and give a lost client up."""
    with suppress(OSError):  # ended already
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.unsent)
        if one.family != socket.AF_UNIX:
            patience = round(limits.answer * 1000)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience)
