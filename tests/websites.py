"""A server for strangers with pages of all kinds, and clients that mean well, or do not."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from aiohttp import web

from fondation_worker.web.connection import Limits
from fondation_worker.web.server import web_server

LIMIT = 20.0  # seconds that a test waits for what must come
ALWAYS = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
}
EVENT = b"data: %s\n\n" % (b"1" * 100)
LENGTH = b"Content-Length: 1\r\n"
Wire = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Pages:
    """What the server under test answers, and what became of it."""

    pace: float = 0.01  # seconds between two events
    asked: int = 0
    followers: int = 0
    followed: int = 0
    large: bytes = b"x" * (16 << 20)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def small(self, _: web.Request) -> web.Response:
        """Answer a few bytes."""
        return web.Response(text="small\n")

    async def much(self, _: web.Request) -> web.Response:
        """Answer more than any buffer takes."""
        self.asked += 1
        return web.Response(body=self.large)

    async def styled(self, _: web.Request) -> web.Response:
        """Answer with a policy of its own."""
        return web.Response(headers={"Content-Security-Policy": "default-src 'self'"})

    async def broken(self, _: web.Request) -> web.Response:
        """Fail, with a secret."""
        raise ValueError("hunter2")

    async def half(self, request: web.Request) -> web.StreamResponse:
        """Fail after a part of the answer."""
        await (response := web.StreamResponse()).prepare(request)
        await response.write(b"half")
        raise ValueError("hunter2")

    async def gone(self, _: web.Request) -> web.Response:
        """Answer as aiohttp's own errors do."""
        raise web.HTTPGone

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Go on for ever, at a pace that the test gives."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        self.followers += 1
        try:
            while True:
                await response.write(EVENT)
                await self.go_on.wait()
                await asyncio.sleep(self.pace)
        finally:
            self.followers -= 1
            self.followed += 1

    async def flood(self, request: web.Request) -> web.StreamResponse:
        """Write without a pause."""
        self.asked += 1
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            while True:
                await response.write(self.large)
        finally:
            self.followed += 1


@dataclass
class Site:
    """A server that answers, at *address*."""

    pages: Pages
    address: tuple[str, int]

    @asynccontextmanager
    async def wire(self) -> AsyncIterator[Wire]:
        """Give a connection."""
        reader, writer = await asyncio.open_connection(*self.address, limit=1 << 20)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def get(self, path: str = "/small", method: str = "GET") -> "Answer":
        """Ask on a connection of its own, and return the answer."""
        async with self.wire() as wire:
            return await ask(wire, path, method)

    async def has_room(self) -> None:
        """Wait until there is a place again."""
        async with asyncio.timeout(LIMIT):
            while (await self.get()).status == 503:
                await asyncio.sleep(0.01)

    async def refused(self, begin: bytes, more: bytes) -> bytes:
        """Send on and on, until that fails; return what has come back by then."""
        loop = asyncio.get_running_loop()
        with socket.socket() as one:
            one.setblocking(False)  # noqa: FBT003 the library's way
            await loop.sock_connect(one, self.address)
            await loop.sock_sendall(one, begin)
            async with asyncio.timeout(LIMIT):
                with suppress(ConnectionError):
                    while True:
                        await loop.sock_sendall(one, more)
                        await asyncio.sleep(0)
                return await loop.sock_recv(one, 1 << 16)

    def deaf(self, request: bytes, path: str | None = None) -> socket.socket:
        """Return a connection that asks and never reads; it takes little by itself."""
        one = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.connect(path or self.address)
        one.sendall(request)
        return one


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> str:
        """What it says is wrong."""
        words: str = json.loads(self.body)["error"]
        return words


@asynccontextmanager
async def site(
    limits: Limits | None = None, more: Sequence[socket.socket] = ()
) -> AsyncIterator[Site]:
    """Serve pages on a port, and on *more* sockets."""
    pages = Pages()
    answering = {
        "/": pages.small,
        "/small": pages.small,
        "/much": pages.much,
        "/styled": pages.styled,
        "/broken": pages.broken,
        "/half": pages.half,
        "/gone": pages.gone,
        "/events": pages.events,
        "/flood": pages.flood,
    }
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    streams = frozenset({"/events", "/flood"})
    async with web_server(None, answering, (listener, *more), streams=streams, limits=limits):
        yield Site(pages, address)


def request(path: str = "/small", method: str = "GET", more: str = "") -> bytes:
    """Return a request as clients write it."""
    return f"{method} {path} HTTP/1.1\r\nHost: worker\r\n{more}\r\n".encode()


async def ask(wire: Wire, path: str = "/small", method: str = "GET", more: str = "") -> Answer:
    """Ask, and return the answer."""
    wire[1].write(request(path, method, more))
    return await answer(wire[0], has_body=method != "HEAD")


async def answer(reader: asyncio.StreamReader, *, has_body: bool = True) -> Answer:
    """Return the next answer that has a length."""
    async with asyncio.timeout(LIMIT):
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = (line.split(": ", 1) for line in lines[1:] if line)
        headers = {name.lower(): value for name, value in pairs}
        length = int(headers.get("content-length", 0)) if has_body else 0
        return Answer(int(lines[0].split()[1]), headers, await reader.readexactly(length))


async def ended(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the server ends the connection."""
    came = b""
    async with asyncio.timeout(LIMIT):
        with suppress(ConnectionResetError):
            while piece := await reader.read(1 << 16):
                came += piece
    return came
