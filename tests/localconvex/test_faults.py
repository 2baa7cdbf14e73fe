"""The faults that a test can ask for, and the clock that it can move."""

import asyncio
import itertools
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from devtools.backend import Backend, local_backend
from tests.localconvex.clients import (
    FUNCTIONS,
    SOCKETS,
    Refused,
    call,
    client,
    send,
    until,
    until_query,
)

MINUTE = 60_000


async def add_fault(backend: Backend, **fault: Any) -> None:
    """Have the next call go wrong."""
    status, answer, _ = await send(backend, "POST", "/_faults", fault)
    assert status == 200, answer


async def notes(backend: Backend) -> Any:
    """Return the texts of all notes."""
    return await call(backend, "query", "notes:list")


async def test_a_conflict_over_http_is_a_503_and_writes_nothing(backend: Backend) -> None:
    """Only as often as asked, and only for the function that was named."""
    await add_fault(backend, fault="conflict", kind="mutation", path="notes:add", times=2)
    body = {"path": "notes:add", "args": {"text": "after conflicts"}}
    assert await call(backend, "query", "notes:list") == []
    for _ in range(2):
        status, answer, _ = await send(backend, "POST", "/api/mutation", body)
        assert (status, answer["code"]) == (503, "OptimisticConcurrencyControlFailure")
    assert await notes(backend) == []
    assert (await send(backend, "POST", "/api/mutation", body))[0] == 200
    assert await notes(backend) == ["after conflicts"]


@pytest.mark.parametrize("name", SOCKETS)
async def test_a_conflict_on_a_socket_is_tried_again_by_the_client(
    backend: Backend, name: str
) -> None:
    """The socket is closed, and the client comes back and sends its mutation again."""
    await add_fault(backend, fault="conflict", path="notes:add")
    async with client(name, backend) as ask:
        await ask("mutation", "notes:add", text="in the end")
    assert await notes(backend) == ["in the end"]


async def test_a_lost_reply_leaves_the_commit(backend: Backend) -> None:
    """The caller sees a broken connection, and cannot know."""
    await add_fault(backend, fault="lostReply", path="notes:add")
    with pytest.raises(aiohttp.ClientError):
        await call(backend, "mutation", "notes:add", text="committed")
    assert await notes(backend) == ["committed"]
    await add_fault(backend, fault="lostReply", path="notes:add")
    async with client("python http", backend) as ask:
        with pytest.raises(Refused):
            await ask("mutation", "notes:add", text="committed, too")
    assert await notes(backend) == ["committed", "committed, too"]


async def test_a_lost_reply_on_a_socket_is_asked_for_again(backend: Backend) -> None:
    """The JavaScript client keeps its session, so its mutation runs once all the same."""
    await add_fault(backend, fault="lostReply", path="notes:add")
    async with client("javascript socket", backend) as ask:
        await ask("mutation", "notes:add", text="once")
    assert await notes(backend) == ["once"]


@pytest.mark.parametrize(("fault", "meanwhile"), [("delayBefore", []), ("delayAfter", ["slow"])])
async def test_a_delay_is_before_or_after_the_commit(
    backend: Backend, fault: str, meanwhile: list[str]
) -> None:
    """So that a caller's time limit can strike on either side of it."""
    await add_fault(backend, fault=fault, path="notes:add", ms=700)
    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        slow = group.create_task(call(backend, "mutation", "notes:add", text="slow"))

        async def taken() -> bool:
            return bool((await send(backend, "GET", "/_faults"))[1] == [])

        await until(taken)
        await until_query(backend, "notes:list", meanwhile)
        assert not slow.done()
    assert time.monotonic() - started > 0.65


async def test_refused_connections_come_back_by_themselves(backend: Backend) -> None:
    """A deployment that is down for a while, without losing its process."""
    async with client("javascript socket", backend) as ask:
        await ask.order(op="subscribe", path="notes:count", args={})
        assert await ask.order(op="next") == 0
        await add_fault(backend, fault="refuse", ms=500)

        async def is_refused() -> bool:
            try:
                await notes(backend)
            except aiohttp.ClientError:
                return True
            return False

        async def is_open() -> bool:
            return not await is_refused()

        await until(is_refused)
        await until(is_open)
        await call(backend, "mutation", "notes:add", text="open again")
        while not (count := await ask.order(op="next")):
            pass  # it may have come back, and been answered anew, before there was something
        assert count == 1


async def test_refusing_connections_drops_open_sockets(backend: Backend) -> None:
    """A subscription must not go on while the deployment is said to be down."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(backend.url + "/api/sync") as socket,
    ):
        await add_fault(backend, fault="refuse", ms=60_000)
        assert (await socket.receive(timeout=10)).type == aiohttp.WSMsgType.CLOSED


async def test_sockets_can_be_dropped(backend: Backend) -> None:
    """Their clients come back and follow on."""
    async with client("python socket", backend) as ask:
        await ask.order(op="subscribe", path="notes:count", args={})
        assert await ask.order(op="next") == 0
        assert (await send(backend, "POST", "/_disconnect"))[1] == {"disconnected": 1}
        await call(backend, "mutation", "notes:add", text="unseen")
        while await ask.order(op="next") != 1:
            pass


async def test_faults_are_listed_and_cleared(backend: Backend) -> None:
    """Those that are still to come."""
    await add_fault(backend, fault="conflict", times=3)
    rules = (await send(backend, "GET", "/_faults"))[1]
    assert rules == [{"fault": "conflict", "times": 3, "ms": 0}]
    assert (await send(backend, "DELETE", "/_faults"))[1] == []


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"[null]",
        {"fault": "earthquake"},
        {"fault": "conflict", "unheard": "of"},
        {"fault": "delayBefore", "ms": -1},
        {"fault": "delayBefore", "ms": "500"},
        {"fault": "refuse", "ms": "soon"},
        {"fault": "refuse", "ms": 2**31},
        [{"fault": "conflict"}, {"fault": "refuse", "ms": None}],
    ],
)
async def test_what_is_no_fault_is_refused(backend: Backend, body: Any) -> None:
    """All of it, so that a test does not wait for what never comes."""
    status, answer, _ = await send(backend, "POST", "/_faults", body)
    assert (status, answer["code"]) == (400, "BadFault")
    assert (await send(backend, "GET", "/_faults"))[1] == []


async def test_the_clock_moves_functions_scheduler_and_crons_together(backend: Backend) -> None:
    """Each function that becomes due runs with the clock at its own time, in order."""
    start, _ = await call(backend, "query", "notes:clock")
    for minutes in (4, 2):
        text, delay = f"after {minutes} min", minutes * MINUTE - 10_000
        await call(backend, "mutation", "notes:remind", text=text, inMs=delay)
    clock = (await send(backend, "POST", "/_clock", {"advanceMs": 5 * MINUTE}))[1]
    assert clock["now"] >= start + 5 * MINUTE

    assert await notes(backend) == ["after 2 min", "after 4 min"]
    ticks = [row["at"] for row in await call(backend, "query", "ticks:all")]
    assert len(ticks) == 6  # one at the start, then one each minute
    steps = [after - before for before, after in itertools.pairwise(ticks)]
    assert steps == pytest.approx([MINUTE] * 5, abs=1000)
    now, constructed = await call(backend, "query", "notes:clock")
    assert now == constructed >= start + 5 * MINUTE

    await backend.kill()
    await backend.restart()
    assert (await call(backend, "query", "notes:clock"))[0] >= now


async def test_a_jump_of_the_clock_is_a_host_that_slept(backend: Backend) -> None:
    """Everything overdue runs late, and a cron job once."""
    start = (await call(backend, "query", "notes:clock"))[0]
    await call(backend, "mutation", "notes:remind", text="late", inMs=MINUTE)
    await send(backend, "POST", "/_clock", {"advanceMs": 10 * MINUTE, "jump": True})
    assert await notes(backend) == ["late"]
    ticks = [row["at"] for row in await call(backend, "query", "ticks:all")]
    assert len(ticks) == 2
    assert ticks[1] >= start + 10 * MINUTE


async def test_daily_jobs_run_at_their_hour(backend: Backend) -> None:
    """At 03:30 UTC, once a day."""
    await send(backend, "POST", "/_clock", {"advanceMs": 24 * 60 * MINUTE})
    rows = await call(backend, "query", "ticks:all")
    [at] = [row["at"] for row in rows if row["by"] == "daily"]
    assert at % (24 * 60 * MINUTE) == pytest.approx(3.5 * 60 * MINUTE, abs=1000)


async def test_rows_are_inserted_as_an_import_would(backend: Backend) -> None:
    """With the creation time they bring; the schema refuses what it refuses, and all of it."""
    rows: list[dict[str, Any]] = [{"text": "old", "_creationTime": 1000.5}, {"text": "new"}]
    status, answer, _ = await send(backend, "POST", "/_rows", {"table": "notes", "rows": rows})
    assert (status, len(answer["ids"])) == (200, 2)
    stored = (await send(backend, "GET", "/_rows?table=notes"))[1]["rows"]
    assert [row["text"] for row in stored] == ["old", "new"]
    assert stored[0]["_creationTime"] == 1000.5

    bad = {"table": "notes", "rows": [{"text": "good"}, {"text": 5}]}
    status, answer, _ = await send(backend, "POST", "/_rows", bad)
    assert (status, answer["code"]) == (400, "BadRows")
    assert (await send(backend, "POST", "/_rows", {"table": "nowhere", "rows": []}))[0] == 400
    assert await notes(backend) == ["old", "new"]


async def test_without_the_option_there_is_no_fault_interface(tmp_path: Path) -> None:
    """A demo or a laptop has nothing to fear from it."""
    async with local_backend(tmp_path, functions=FUNCTIONS) as backend:
        for path in ("/_faults", "/_clock", "/_rows?table=notes"):
            assert (await send(backend, "GET", path))[0] == 404
        assert (await send(backend, "POST", "/_disconnect"))[0] == 404
