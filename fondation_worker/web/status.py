"""`GET /`: the status page; `GET /events`: what changes on it, as server-sent events.

However many look, the page is rendered once a second at most, and while nobody looks never.
"""

import asyncio
import contextlib

from aiohttp import web

from fondation_worker.clock import boottime
from fondation_worker.history import History
from fondation_worker.snapshot import Look
from fondation_worker.web.page import POLICY, Rendering, rendered

INTERVAL = 1.0  # seconds between two messages of a stream, and between two renderings
SIGN_OF_LIFE = 15.0  # seconds after which a stream without news says that it lives
RETRY = 2000  # milliseconds before a client connects anew
_STREAM = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # a proxy that collects would hold back what is to be seen at once
}


class StatusPage:
    """The page of one process, and its streams."""

    def __init__(self, look: Look, history: History) -> None:
        self._look = look
        self._history = history
        self._rendering: tuple[float, Rendering] | None = None  # and when it was made

    async def page(self, _: web.Request) -> web.Response:
        """Answer with the whole page."""
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-store"}
        text = self._now().document()
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Answer with every section, then with each that changes, until the client goes.

        One that does not read, and all of them at its own end, are the server's to cut.
        """
        response = web.StreamResponse(headers=_STREAM)
        await response.prepare(request)
        with contextlib.suppress(ConnectionResetError):
            await self._tell(response)
        return response

    async def _tell(self, response: web.StreamResponse) -> None:
        """Write what there is to tell, for ever; raises ConnectionResetError."""
        await response.write(b"retry: %d\n\n" % RETRY)
        told, when = None, boottime()
        while True:
            now = self._now()
            if news := now.since(told):
                await response.write(b"data: %s\n\n" % news.encode())
                told, when = now, boottime()
            elif boottime() - when >= SIGN_OF_LIFE:  # a script would not hear of a comment
                await response.write(b"event: alive\ndata: yes\n\n")
                when = boottime()
            await asyncio.sleep(INTERVAL)

    def _now(self) -> Rendering:
        """Return the page as it is, or was a moment ago."""
        if self._rendering is None or boottime() - self._rendering[0] >= INTERVAL:
            self._rendering = boottime(), rendered(self._look(), self._history)
        return self._rendering[1]
