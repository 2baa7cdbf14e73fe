"""`GET /`: the status page; `GET /events`: what changes on it, as server-sent events.

However many look, the page is rendered once a second at most, and while nobody looks never.
"""

import asyncio
import contextlib
from collections.abc import Callable

from aiohttp import web

from fondation_worker.clock import boottime
from fondation_worker.history import History
from fondation_worker.snapshot import Snapshot
from fondation_worker.web.page import POLICY, Rendering, rendered

INTERVAL = 1.0  # seconds between two messages of a stream, and between two renderings
SIGN_OF_LIFE = 15.0  # seconds after which a stream without news says that it lives
PATIENCE = 30.0  # seconds that a client may take for a message
RETRY = 2000  # milliseconds before a client connects anew
_STREAM = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # a proxy that collects would hold back what is to be seen at once
}


class StatusPage:
    """The page of one process and its streams; `aclose` ends the streams."""

    def __init__(self, look: Callable[[], Snapshot], history: History) -> None:
        self._look = look
        self._history = history
        self._rendering: tuple[float, Rendering] | None = None  # and when it was made
        self._closed = asyncio.Event()

    async def aclose(self) -> None:
        """End every stream, and any that comes after; the server need not wait for them then."""
        self._closed.set()

    async def page(self, _: web.Request) -> web.Response:
        """Answer with the whole page."""
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-store"}
        text = self._now().document()
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Answer with every section, then with each that changes, until somebody goes."""
        if request.method != "GET":
            return web.Response(headers=_STREAM)
        response = web.StreamResponse(headers=_STREAM)
        await response.prepare(request)
        try:
            await self._tell(request, response)
        except TimeoutError:
            if request.transport:
                request.transport.abort()  # else the end of the answer would wait for the same
        except ConnectionResetError:
            pass
        return response

    async def _tell(self, request: web.Request, response: web.StreamResponse) -> None:
        """Write messages; raises ConnectionResetError and TimeoutError when nobody reads them."""
        await _write(response, f"retry: {RETRY}\n\n")
        told, when = None, boottime()
        while not self._closed.is_set() and request.transport is not None:
            now = self._now()
            if news := now.since(told):
                await _write(response, f"data: {news}\n\n")
                told, when = now, boottime()
            elif boottime() - when >= SIGN_OF_LIFE:
                # A script does not hear of a comment, so this is an event.
                await _write(response, "event: alive\ndata: yes\n\n")
                when = boottime()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL):
                    await self._closed.wait()

    def _now(self) -> Rendering:
        """Return the page as it is, or was a moment ago."""
        if self._rendering is None or boottime() - self._rendering[0] >= INTERVAL:
            self._rendering = boottime(), rendered(self._look(), self._history)
        return self._rendering[1]


async def _write(response: web.StreamResponse, message: str) -> None:
    async with asyncio.timeout(PATIENCE):
        await response.write(message.encode())
