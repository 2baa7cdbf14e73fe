"""The HTTP server that strangers on the network may talk to.

It answers GET and HEAD of the pages that it was given and nothing else, with headers that keep
other sites' pages out, and shares an event loop with the leases of jobs that run: no client may
cost it much. What each connection may use is `connection.Limits`.
"""

import asyncio
import logging
import socket
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
    MutableMapping,
    Sequence,
)
from contextlib import asynccontextmanager
from typing import cast

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage, StreamWriter

from fondation_worker import events
from fondation_worker.web.answers import close_doors, refusal
from fondation_worker.web.connection import Connection, Crowd, Limits, retry_after

logger = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_NOT_FOUND = 404
_METHOD_NOT_ALLOWED = 405
_TOO_LARGE = 431
_FAULT = 500
_BUSY = 503
_METHODS = ("GET", "HEAD")
_MOST_BODY = 4096  # bytes that a page could read, if any did


@asynccontextmanager
async def web_server(
    address: tuple[str, int] | None,
    pages: Mapping[str, Handler],
    inherited: Sequence[socket.socket] = (),
    *,
    streams: frozenset[str] = frozenset(),
    limits: Limits | None = None,
) -> AsyncIterator[str | None]:
    """Answer for *pages*, by exact path, while the body runs; give why that cannot be, or None.

    On the sockets *inherited* from systemd, which are closed at the end; without any, on *address*.
    One that cannot be had is said in the log, and the worker works on without. The *streams* among
    the pages may go on for ever: few clients can have one at once, a HEAD does not start one, and
    they end when the body does.
    """
    if address is None and not inherited:
        yield None
        return
    crowd = Crowd(limits or Limits())
    server = _Server(pages, streams, crowd)
    runner = web.ServerRunner(server, shutdown_timeout=crowd.limits.end)
    await runner.setup()
    try:
        yield await _listen(runner, address, inherited)
    finally:
        crowd.cut(crowd.streaming)
        await runner.cleanup()
        crowd.cut(crowd.live)  # who does not take the rest of an answer


class _Server(web.Server):
    """Makes connections of what is accepted, requests of what these read, and answers."""

    def __init__(self, pages: Mapping[str, Handler], streams: frozenset[str], crowd: Crowd) -> None:
        super().__init__(self._answered, request_factory=self._requested, handler_cancellation=True)
        self._pages = pages
        self._streams = streams
        self._crowd = crowd

    def __call__(self) -> Connection:
        """Return what talks on the next connection."""
        return Connection(self, self._crowd)

    def _requested(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        _: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.Request:
        """Return a request whose answer passes `_before_sending`, wherever it comes from."""
        cast("Connection", protocol).takes_request()
        loop = asyncio.get_running_loop()
        writer = StreamWriter(protocol, loop, on_headers_sent=_before_sending)
        return web.Request(
            message, payload, protocol, writer, task, loop, client_max_size=_MOST_BODY
        )

    async def _answered(self, request: web.BaseRequest) -> web.StreamResponse:
        """Return the answer to a request, whatever happens to it."""
        # From Python 3.12 on aiohttp answers all requests that came in one piece in one turn of the
        # loop: 70 KB of them would stop every heartbeat for seconds.
        await asyncio.sleep(0)
        try:
            response = await self._page(cast("web.Request", request))
        except web.HTTPException as refused:
            response = refusal(refused.status, refused.reason)
        except ConnectionError:  # the client went
            raise
        except Exception:
            words = "a fault of this program: %s is not answered"
            logger.exception(words, request.path, extra=events.FAULT.extra)
            if request.writer.output_size:  # nothing else can follow what is sent
                raise ConnectionResetError from None
            response = refusal(_FAULT, "a fault of this program; its log tells more")
        if request.body_exists:  # nobody reads it, so nothing can follow it
            response.force_close()
        return response

    async def _page(self, request: web.Request) -> web.StreamResponse:
        """Return what a page says, or why there is none."""
        if request.method not in _METHODS:
            allowed = {"Allow": ", ".join(_METHODS)}
            words = "only GET and HEAD are answered; `fondation-worker pause` steers a worker"
            return refusal(_METHOD_NOT_ALLOWED, words, allowed)
        size = sum(len(name) + len(value) for name, value in request.raw_headers)
        if size > self._crowd.limits.unasked:
            return refusal(_TOO_LARGE, "these headers are too large")
        path = request.path or "/"
        if page := self._pages.get(path):
            return await (self._follow(request, page) if path in self._streams else page(request))
        return refusal(_NOT_FOUND, f"no such page; there are {', '.join(self._pages)}")

    async def _follow(self, request: web.Request, page: Handler) -> web.StreamResponse:
        """Let a page go on for as long as it likes, one of few."""
        crowd, connection = self._crowd, cast("Connection", request.protocol)
        if request.method == "HEAD":
            return web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        if len(crowd.streaming) >= crowd.limits.streams:
            words = f"{crowd.limits.streams} clients follow already, come back later"
            return refusal(_BUSY, words, retry_after(crowd.limits))
        crowd.streaming.add(connection)
        try:
            return await page(request)
        finally:
            crowd.streaming.discard(connection)


async def _before_sending(headers: MutableMapping[str, str]) -> None:
    """Take the last word on the head of an answer: aiohttp writes *headers* after this."""
    close_doors(headers)


async def _listen(
    runner: web.ServerRunner, address: tuple[str, int] | None, inherited: Sequence[socket.socket]
) -> str | None:
    """Listen; return in words why not, or None."""
    for one in inherited:
        await web.SockSite(runner, one).start()
    if not inherited and address:
        try:
            await web.TCPSite(runner, *address).start()
        except OSError as error:
            words = f"{address[0]}:{address[1]}: {error.strerror}"
            extra = events.NO_PORT.extra
            logger.error("health: %s; set HEALTH_ADDRESS", words, extra=extra)  # noqa: TRY400 the words say all
            return f"no health port: {words}"
    for name in runner.addresses:
        logger.info("health: %s", _shown(name))
    return None


def _shown(name: tuple[str, int, int, int] | tuple[str, int] | str | bytes) -> str:
    """Return where somebody finds a socket of this *name*."""
    if isinstance(name, tuple):
        host = f"[{name[0]}]" if ":" in name[0] else name[0]
        return f"http://{host}:{name[1]}/health"
    return f"unix socket {name!r}"
