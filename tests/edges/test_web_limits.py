"""What clients may use of the server for strangers: places, time and bytes."""

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from fondation_worker.web.connection import Limits
from tests.processes import until
from tests.websites import ALWAYS, EVENT, LIMIT, answer, ask, ended, request, site


async def test_one_connection_too_many_is_told_and_ended(tmp_path: Path) -> None:
    """Over all sockets; also when it asks for nothing. Whoever leaves makes room."""
    with socket.socket(socket.AF_UNIX) as file:
        file.bind(path := str(tmp_path / "s"))
        async with site(Limits(connections=3, idle=10 * LIMIT), more=(file,)) as one:
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
            await one.has_room()
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
        await one.has_room()
    (record,) = (record for record in caplog.records if record.levelno >= logging.WARNING)
    assert "64 connections are open" in record.getMessage()


async def test_requests_that_come_in_one_piece_take_turns_with_the_rest() -> None:
    """Else one piece of them holds up every heartbeat; so it was from Python 3.12 on."""
    count, turns = 500, 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with site() as one, one.wire() as (reader, writer):
        turning = asyncio.create_task(turn())
        writer.write(request() * count)
        assert [(await answer(reader)).status for _ in range(count)] == [200] * count
        turning.cancel()
    assert turns >= count


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

        async with asyncio.TaskGroup() as group:
            sending = group.create_task(send())
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
                await one.has_room()
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
