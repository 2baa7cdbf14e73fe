"""The server for strangers, asked over real sockets by clients that mean well, or do not."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings, strategies as st

from fondation_worker import events
from fondation_worker.web.connection import Limits
from fondation_worker.web.server import web_server
from tests.processes import until

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
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        length = int(headers.get("content-length", 0)) if has_body else 0
        named = {line.split(": ")[0].lower(): line.split(": ", 1)[1] for line in lines[1:] if line}
        return Answer(int(lines[0].split()[1]), named, await reader.readexactly(length))


async def ended(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the server ends the connection."""
    came = b""
    async with asyncio.timeout(LIMIT):
        with suppress(ConnectionResetError):
            while piece := await reader.read(1 << 16):
                came += piece
    return came


async def test_a_page_answers_get_and_head_on_one_connection() -> None:
    """HEAD says what GET would, its length included, and sends nothing of it."""
    async with site() as one, one.wire() as wire:
        got = await ask(wire)
        head = await ask(wire, method="HEAD")
        again = await ask(wire)
    assert (got.status, got.body, head.status, head.body) == (200, b"small\n", 200, b"")
    assert head.headers == got.headers | {"date": head.headers["date"]}
    assert again.body == got.body


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/small?a=1&b=%ff", 200),
        ("/small?", 200),
        ("/sm%61ll", 200),
        ("http://elsewhere:1/small?a", 200),
        ("/gone", 410),
        ("/", 200),
        ("http://elsewhere", 200),
        ("/small/", 404),
        ("//small", 404),
        ("/./small", 404),
        ("/x/../small", 404),
        ("/small%00", 404),
        ("/small%2f", 404),
        ("/%ff%c0%80", 404),
        ("/[", 404),
        ("///[::1", 404),
        ("/" + "a" * 8000, 404),
        ("/" + "a" * 8200, 400),
        ("/sm\0all", 400),
        ("/sm\xe4ll", 400),
        ("*", 400),
        ("small", 400),
        ("http://[::1/", 400),
        ("http://a:99999999/", 400),
        ("/a b", 400),
    ],
)
async def test_each_target_has_its_answer(target: str, status: int) -> None:
    """A page is named exactly; what names none, or nothing, is said so in JSON."""
    async with site() as one:
        got = await one.get(target)
        assert got.status == status, got
        assert got.status == 200 or got.error
        assert (await one.get()).status == 200


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "CONNECT"]
)
async def test_other_methods_are_told_which_there_are(method: str) -> None:
    """There is nothing to change here."""
    async with site() as one:
        got = await one.get("a:1" if method == "CONNECT" else "/small", method)
        assert (got.status, got.headers["allow"]) == (405, "GET, HEAD")
        assert "GET and HEAD" in got.error


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a client that speaks TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /small HTTP/9.9\r\nHost: a\r\n\r\n",
        b"GET /small HTTP/1.1\r\n\r\n",  # without a host
        b"GET /small HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /small HTTP/1.1\nHost: a\n\n",
        b"GET /small HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        b"GET /small HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
        b"GET /small HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n",
        b"GET /small HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"GET /small HTTP/1.1\r\nHost: a\r\nContent-Length: 1e3\r\n\r\n",
        b"GET /small HTTP/1.1\r\nHost: a\r\nContent-Length: 9%s\r\n\r\n" % (b"9" * 30),
        b"GET /small HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /small HTTP/1.1\r\nHost: a\r\n" + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n",
        b"GET /small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: rot13\r\n\r\n",
        b"GET /small HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n" % (b"x" * 8200),
        b"GET /small HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * 64 + b"\r\n",
    ],
)
async def test_what_is_no_request_is_answered_and_ended(
    sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """In JSON, too; and no stranger writes into the log."""
    caplog.set_level(logging.INFO)
    async with site() as one, one.wire() as (reader, writer):
        writer.write(sent)
        got = await answer(reader)
        assert (got.status, await ended(reader)) == (400, b"")
        assert "no HTTP request" in got.error
        assert [record for record in caplog.records if not record.msg.startswith("health: ")] == []


async def test_every_answer_has_the_headers_that_keep_others_out() -> None:
    """Errors included; and none tells what this is made of, or lets another site read."""
    async with site() as one, one.wire() as (reader, writer):
        paths = ("/small", "/much", "/nowhere", "/gone", "/broken")
        answers = [await one.get(path, method) for path in paths for method in ("GET", "HEAD")]
        answers += [await one.get(method="POST"), await one.get("/events", "HEAD")]
        writer.write(b"\0")
        answers.append(await answer(reader))
    for got in answers:
        assert got.headers.items() >= ALWAYS.items()
        assert not [name for name in got.headers if name in {"server", "x-powered-by"}]
        assert not [name for name in got.headers if name.startswith("access-control")]


async def test_a_page_may_have_a_policy_of_its_own() -> None:
    """A page that runs a script must name it."""
    async with site() as one:
        got = await one.get("/styled")
        assert got.headers["content-security-policy"] == "default-src 'self'"


async def test_a_fault_is_in_the_log_and_not_on_the_wire(caplog: pytest.LogCaptureFixture) -> None:
    """The operator learns all of it, the client that there was one."""
    async with site() as one:
        got = await one.get("/broken")
        assert (got.status, "fault" in got.error) == (500, True)
        assert b"hunter2" not in got.body
        assert (await one.get()).status == 200
    (record,) = (record for record in caplog.records if record.levelno >= logging.ERROR)
    assert record.__dict__["event"] == events.FAULT
    assert record.exc_info


async def test_a_fault_after_half_an_answer_ends_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A second answer would be taken for the rest of the first."""
    async with site() as one, one.wire() as (reader, writer):
        writer.write(request("/half"))
        came = await ended(reader)
        assert came.endswith(b"4\r\nhalf\r\n")
    (record,) = (record for record in caplog.records if record.levelno >= logging.ERROR)
    assert record.__dict__["event"] == events.FAULT


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "more",
    [
        "Content-Length: 1000000000\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n",
        "Expect: 100-continue\r\nContent-Length: 10\r\n",
        "Expect: miracles\r\nContent-Length: 10\r\n",
    ],
)
async def test_a_body_is_not_waited_for(method: str, more: str) -> None:
    """The answer comes first, and the connection, which cannot be used again, ends."""
    async with site(Limits(linger=0.1)) as one, one.wire() as wire:
        got = await ask(wire, "/small", method, more)
        assert got.status == (200 if method == "GET" else 405)
        assert got.headers["connection"] == "close"
        assert await ended(wire[0]) == b""


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"5\r\nhello\r\n0\r\n\r\n", b"405"),
        (b"5\r\nhel", b"405"),
        (b"zz\r\n", b"400"),
        (b"5\r\nhello!!", b"400"),
        (b"\x1f\x8b\x08" * 9, b"400"),
    ],
)
async def test_a_body_that_was_sent_along_costs_nobody_an_answer(
    body: bytes, status: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Sane or not, it is thrown away unseen."""
    async with site(Limits(linger=0.1)) as one, one.wire() as (reader, writer):
        writer.write(request(method="POST", more="Transfer-Encoding: chunked\r\n") + body)
        assert (await ended(reader)).split()[1] == status
        assert (await one.get()).status == 200
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


async def test_a_body_without_end_is_cut_off() -> None:
    """However fast it comes; whoever reads at all still finds the answer."""
    async with site(Limits(linger=10 * LIMIT)) as one:
        head = request(method="POST", more="Content-Length: 1000000000\r\n")
        came = await one.refused(head, b"x" * (1 << 16))
        assert came.split()[1] == b"405"


async def test_a_body_that_breaks_after_the_answer_is_no_fault_of_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nor a line in the log."""
    async with site(Limits(linger=0.1)) as one, one.wire() as wire:
        assert (await ask(wire, method="POST", more="Transfer-Encoding: chunked\r\n")).status == 405
        wire[1].write(b"nonsense\r\n")
        await ended(wire[0])
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


async def test_a_body_is_not_unpacked(caplog: pytest.LogCaptureFixture) -> None:
    """It could be a bomb."""
    more = "Content-Encoding: gzip\r\nContent-Length: 7\r\n"
    async with site() as one, one.wire() as (reader, writer):
        writer.write(request(method="POST", more=more) + b"no gzip")
        assert (await answer(reader)).status == 405
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


async def test_a_head_without_end_is_refused() -> None:
    """Each of its lines is within the limits; all of them are not."""
    async with site() as one:
        line = b"X: %s\r\n" % (b"x" * 1000)
        came = await one.refused(b"GET /small HTTP/1.1\r\nHost: a\r\n", line)
        assert came.split()[1] == b"431"


async def test_a_head_that_is_large_in_all_is_refused_also_at_once() -> None:
    """Whether it came in pieces does not matter."""
    more = f"X: {'x' * 8000}\r\n" * 5
    async with site() as one, one.wire() as wire:
        assert (await ask(wire, more=more)).status == 431
        assert (await ask(wire)).status == 200


@pytest.mark.parametrize("protocol", ["websocket", "h2c", "TLS/1.0"])
async def test_an_upgrade_is_not_made(protocol: str) -> None:
    """The request is answered as it is."""
    async with site() as one, one.wire() as wire:
        more = f"Connection: upgrade\r\nUpgrade: {protocol}\r\n"
        assert (await ask(wire, more=more)).status == 200
        assert (await ask(wire)).status == 200


async def test_requests_in_a_row_are_answered_in_a_row() -> None:
    """A thousand before the first answer is read, each answered once."""
    async with site() as one, one.wire() as (reader, writer):
        writer.write((request() + request("/nowhere")) * 500)
        got = [(await answer(reader)).status for _ in range(1000)]
        assert got == [200, 404] * 500
        assert (await one.get()).status == 200


async def test_who_has_asked_and_says_no_more_is_answered() -> None:
    """As `nc -N` does; the answer is the last, and the place is free after."""
    async with site(Limits(connections=1)) as one:
        for _ in range(3):
            async with one.wire() as (reader, writer):
                writer.write(request())
                writer.write_eof()
                assert (await answer(reader)).body == b"small\n"
                assert await ended(reader) == b""


async def test_one_connection_too_many_is_told_and_ended(tmp_path: Path) -> None:
    """Over all sockets; also when it asks for nothing. Whoever leaves makes room."""
    with socket.socket(socket.AF_UNIX) as file:
        file.bind(path := str(tmp_path / "s"))
        async with site(Limits(connections=3), more=(file,)) as one:
            wires = [await asyncio.open_connection(*one.address) for _ in range(2)]
            wires.append(await asyncio.open_unix_connection(path))
            assert [(await ask(wire)).status for wire in wires] == [200] * 3
            async with one.wire() as (reader, _):
                got = await answer(reader)
                assert (got.status, await ended(reader)) == (503, b"")
                assert got.headers.items() >= (ALWAYS | {"connection": "close"}).items()
                assert int(got.headers["retry-after"]) > 0
                assert "come back later" in got.error
            assert (await ask(wires[2])).status == 200
            wires.pop()[1].close()
            while (await one.get()).status == 503:
                await asyncio.sleep(0.01)
            for _, writer in wires:
                writer.close()


async def test_who_is_turned_away_with_its_request_sent_finds_the_answer() -> None:
    """A connection closed on an unread request is reset, and an answer can be lost with it."""
    async with site(Limits(connections=0)) as one:
        with socket.create_connection(one.address) as early:
            early.sendall(request())  # before the server can accept
            early.setblocking(False)  # noqa: FBT003 the library's way
            loop, came = asyncio.get_running_loop(), b""
            async with asyncio.timeout(LIMIT):
                while piece := await loop.sock_recv(early, 4096):
                    came += piece
        assert came.split()[1] == b"503"


async def test_a_crowd_costs_those_inside_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Two hundred at once: as many as there are places are answered, the others told, in a word."""
    async with site() as one, one.wire() as inside:
        assert (await ask(inside)).status == 200
        wires = await asyncio.gather(*(asyncio.open_connection(*one.address) for _ in range(200)))
        for _, writer in wires:
            with suppress(ConnectionError):
                writer.write(request())
        got = [(await answer(reader)).status for reader, _ in wires]
        assert (got.count(200), got.count(503)) == (63, 137)
        assert (await ask(inside)).status == 200
        for _, writer in wires:
            writer.close()
        while (await one.get()).status != 200:
            await asyncio.sleep(0.01)
    (record,) = (record for record in caplog.records if record.levelno >= logging.WARNING)
    assert "64 connections are open" in record.getMessage()


async def test_few_can_follow_and_all_others_are_answered() -> None:
    """A stream keeps its place for hours: they may not have all of them."""
    async with site(Limits(streams=2)) as one, one.wire() as first, one.wire() as second:
        for reader, writer in (first, second):
            writer.write(request("/events"))
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        third = await one.get("/events")
        assert (third.status, (await one.get()).status) == (503, 200)
        assert int(third.headers["retry-after"]) > 0
        first[1].close()
        await until(lambda: one.pages.followed == 1)
        async with one.wire() as (reader, writer):
            writer.write(request("/events"))
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")


async def test_a_head_of_a_stream_does_not_begin_one() -> None:
    """Who looks whether it is there is told, at once."""
    async with site(Limits(streams=0)) as one, one.wire() as wire:
        got = await ask(wire, "/events", "HEAD")
        assert (got.status, got.headers["content-type"]) == (200, "text/event-stream")
        assert "content-length" not in got.headers
        assert (await ask(wire)).status == 200
        assert one.pages.followed == 0


async def test_a_stream_lasts_longer_than_any_limit() -> None:
    """What is taken is not cut off."""
    limits = Limits(head=0.1, idle=0.1, answer=0.1, linger=0.1, look=0.02)
    async with site(limits) as one, one.wire() as (reader, writer):
        writer.write(request("/events"))
        await reader.readuntil(EVENT)
        await asyncio.sleep(0.5)
        one.pages.go_on.set()
        async with asyncio.timeout(LIMIT):
            for _ in range(50):
                await reader.readuntil(EVENT)


async def test_streams_end_with_the_server_and_do_not_hold_it_up() -> None:
    """A worker that stops must not wait for a browser."""
    async with asyncio.timeout(LIMIT):
        async with site(Limits(end=10 * LIMIT)) as one:
            reader, writer = await asyncio.open_connection(*one.address)
            writer.write(request("/events"))
            await reader.readuntil(EVENT)
        await ended(reader)
        writer.close()
        assert one.pages.followers == 0


async def test_a_client_that_takes_nothing_does_not_hold_up_the_end() -> None:
    """Nor is anything of an answer kept for it after, but the little that the kernel had taken."""
    async with asyncio.timeout(LIMIT):
        async with site(Limits(end=0.1)) as one:
            deaf = one.deaf(request("/much"))
            await until(lambda: one.pages.asked)
        with deaf:
            deaf.settimeout(LIMIT)
            came = 0
            with suppress(ConnectionError):
                while piece := await asyncio.to_thread(deaf.recv, 1 << 20):
                    came += len(piece)
            assert came < 1 << 19


def say_nothing() -> list[bytes]:
    """Connect only."""
    return []


def drip() -> list[bytes]:
    """Send byte after byte of a request that never ends."""
    return [b"G", b"E", b"T", b" ", *[b"/"] * 10_000]


def drip_later() -> list[bytes]:
    """Do the same after a request that was answered."""
    return [request(), *drip()]


@pytest.mark.parametrize("client", [say_nothing, drip, drip_later])
async def test_who_does_not_finish_a_head_is_cut_off(client: Callable[[], list[bytes]]) -> None:
    """A place is for those who ask."""
    limits = Limits(head=0.2, idle=LIMIT * 10, look=0.02)
    async with site(limits) as one, one.wire() as (reader, writer):

        async def send() -> None:
            with suppress(ConnectionError):
                for piece in client():
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.02)

        sending = asyncio.create_task(send())
        came = await ended(reader)
        sending.cancel()
        assert came.count(b"HTTP/1.1 200") == (client is drip_later)
        assert (await one.get()).status == 200


async def test_who_asks_no_more_is_parted_with() -> None:
    """An idle connection keeps a place from others."""
    async with site(Limits(idle=0.2)) as one, one.wire() as wire:
        assert (await ask(wire)).status == 200
        assert await ended(wire[0]) == b""


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
@pytest.mark.parametrize("path", ["/much", "/flood"])
async def test_who_does_not_take_an_answer_is_cut_off(
    path: str, family: socket.AddressFamily, tmp_path: Path
) -> None:
    """Neither an answer nor a stream waits for a reader who has stopped."""
    limits = Limits(connections=1, answer=0.2, look=0.02)
    with socket.socket(socket.AF_UNIX) as file:
        file.bind(name := str(tmp_path / "s"))
        async with site(limits, more=(file,)) as one:
            with one.deaf(request(path), None if family == socket.AF_INET else name):
                await until(lambda: one.pages.asked)
                async with asyncio.timeout(LIMIT):
                    while (await one.get()).status == 503:
                        await asyncio.sleep(0.02)
            assert one.pages.followed == (path == "/flood")


async def test_a_stream_that_trickles_to_nobody_is_cut_off() -> None:
    """The kernel would keep minutes of it for a client that is gone, or has stopped to read."""
    async with site(Limits(answer=0.2, look=0.02)) as one:
        one.pages.pace = 0.05
        one.pages.go_on.set()
        with one.deaf(request("/events")):
            await until(lambda: one.pages.followed, limit=LIMIT)


async def test_who_asks_on_and_reads_nothing_is_cut_off() -> None:
    """However small the answers are."""
    async with site(Limits(answer=0.2, look=0.02)) as one:
        with one.deaf(request()) as deaf, pytest.raises(ConnectionError):  # noqa: PT012 the loop is what is cut off
            deaf.setblocking(False)  # noqa: FBT003 the library's way
            async with asyncio.timeout(LIMIT):
                while True:
                    with suppress(BlockingIOError):
                        deaf.send(request() * 1000)
                    await asyncio.sleep(0.001)
        assert (await one.get()).status == 200


async def test_who_sends_on_behind_a_stream_is_cut_off() -> None:
    """It could make the worker keep requests that wait for a stream's end."""
    async with site(Limits(head=0.2, look=0.02)) as one, one.wire() as (reader, writer):
        writer.write(request("/events"))
        await reader.readuntil(EVENT)
        writer.write(request())
        await ended(reader)
        await until(lambda: one.pages.followed == 1)


async def test_a_taken_port_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """The worker works on without, and says so wherever it is asked."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with web_server(taken.getsockname(), {}) as why:
            assert why
            assert "no health port: 127.0.0.1:" in why
    (record,) = (record for record in caplog.records if record.levelno >= logging.ERROR)
    assert record.__dict__["event"] == events.NO_PORT


async def test_the_log_says_where_to_ask(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """As an address that can be given to curl."""
    caplog.set_level(logging.INFO)
    with socket.socket(socket.AF_UNIX) as file:
        file.bind(str(tmp_path / "s"))
        async with site(more=(file,)) as one, web_server(("::1", 0), {}) as why:
            assert why is None
            said = [record.getMessage() for record in caplog.records]
    assert said[0] == f"health: http://127.0.0.1:{one.address[1]}/health"
    assert said[1].startswith("health: unix socket ")
    assert said[2].startswith("health: http://[::1]:")


TOKENS = st.sampled_from(
    [
        *(b"GET ", b"HEAD ", b"POST ", b"/small", b"/nowhere", b"*", b"?", b"#", b"%00", b"//"),
        *(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":"),
        *(b"Host: a\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"),
        *(b"Connection: close\r\n", b"Connection: upgrade\r\n", b"Upgrade: websocket\r\n"),
        *(b"Expect: 100-continue\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"\xff\xfe", b"http://"),
        *(b"CONNECT ", b"OPTIONS ", b"[::1", b"Content-Encoding: br\r\n", b"x" * 9000),
        request(),
        request(method="HEAD"),
    ]
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(TOKENS | st.binary(max_size=20), max_size=25), pauses=st.integers(0, 3))
async def test_no_bytes_break_it(
    caplog: pytest.LogCaptureFixture, pieces: list[bytes], pauses: int
) -> None:
    """Whatever is sent, in however many parts: no fault, no hang, and the next is answered."""
    async with site(Limits(head=0.05, idle=0.05, linger=0.02, look=0.01)) as one:
        async with one.wire() as (reader, writer):
            with suppress(ConnectionError):
                for number, piece in enumerate(pieces):
                    writer.write(piece)
                    if number < pauses:
                        await writer.drain()
                        await asyncio.sleep(0)
            came = await ended(reader)
        assert b"HTTP/1.1 5" not in came
        assert b"HTTP/1.0 5" not in came
        while (await one.get()).status != 200:
            await asyncio.sleep(0)
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []
