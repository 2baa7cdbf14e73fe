"""What the server for strangers answers, asked over real sockets."""

import asyncio
import logging
import socket
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from fondation_worker import events
from fondation_worker.web.connection import Limits
from fondation_worker.web.server import web_server
from tests.websites import ALWAYS, LENGTH, LIMIT, answer, ask, ended, request, site


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
        await one.has_room()
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []
