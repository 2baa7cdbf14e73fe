"""What outlives the process: everything that was answered, once."""

import asyncio
import itertools
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from devtools.backend import Backend, BackendFailed, local_backend
from tests.localconvex.clients import (
    CLIENTS,
    FUNCTIONS,
    SOCKETS,
    Client,
    Refused,
    call,
    client,
    send,
    until,
    until_query,
)

MINUTE = 60_000


def commit_log(backend: Backend) -> Path:
    """Return the file that every commit is in."""
    return backend.log.parent / "commits.jsonl"


def let_time_pass(backend: Backend, ms: int) -> None:
    """Have the clock stand *ms* later when the stopped backend starts again."""
    with commit_log(backend).open("a") as log:
        log.write(json.dumps({"clockAhead": ms}) + "\n")


@pytest.mark.parametrize("name", CLIENTS)
async def test_every_answered_mutation_survives_a_kill(backend: Backend, name: str) -> None:
    """In the middle of a stream of them, and the same client goes on after the restart."""
    answered: list[str] = []

    async def stream(ask: Client) -> None:
        for number in itertools.count():
            try:
                await ask("mutation", "notes:add", text=f"note {number}")
            except Refused:  # the clients for HTTP say so when the connection breaks
                await asyncio.sleep(0.02)
                continue
            answered.append(f"note {number}")
            if len(answered) == 60:
                return

    async def half_done() -> bool:
        return len(answered) >= 30

    async with client(name, backend) as ask, asyncio.TaskGroup() as group:
        group.create_task(stream(ask))
        await until(half_done)
        await backend.kill()
        await backend.restart()
    counts = Counter(await call(backend, "query", "notes:list"))
    assert all(counts[text] >= 1 for text in answered)
    if name != "python socket":  # it starts a new session to send its mutation again: counted twice
        assert all(counts[text] == 1 for text in answered)


@pytest.mark.parametrize("name", SOCKETS)
async def test_a_subscription_goes_on_after_a_kill(backend: Backend, name: str) -> None:
    """Without the client having to ask for it again."""
    async with client(name, backend) as ask:
        await ask.order(op="subscribe", path="notes:count", args={})
        assert await ask.order(op="next") == 0
        await backend.kill()
        await backend.restart()
        await call(backend, "mutation", "notes:add", text="after")
        while await ask.order(op="next") != 1:
            pass


async def test_a_mutation_sent_again_by_its_session_runs_once(backend: Backend) -> None:
    """The commit was on the disk, the answer was not on its way: the client asks again."""
    slow = {"fault": "delayAfter", "path": "notes:add", "ms": 60_000}
    await send(backend, "POST", "/_faults", slow)
    async with client("javascript socket", backend) as ask, asyncio.TaskGroup() as group:
        again = group.create_task(ask("mutation", "notes:add", text="once"))
        await until_query(backend, "notes:count", 1)
        await backend.kill()
        await backend.restart()
        row_id = await again
    rows = (await send(backend, "GET", "/_rows?table=notes"))[1]["rows"]
    assert [row["_id"] for row in rows] == [row_id]


async def test_what_was_scheduled_runs_once_whatever_happens(backend: Backend) -> None:
    """Killed while they run, and late because nobody was there when they were due."""
    texts = {f"reminder {number}" for number in range(40)}
    for text in texts:
        await call(backend, "mutation", "notes:remind", text=text, inMs=1000)

    async def some_ran() -> bool:
        return bool(await call(backend, "query", "notes:count"))

    await until(some_ran)
    for _ in range(2):
        await backend.kill()
        await backend.restart()
    await until_query(backend, "notes:count", len(texts))
    await backend.kill()
    await backend.restart()
    notes = await call(backend, "query", "notes:list")
    assert sorted(notes) == sorted(texts)
    rows = (await send(backend, "GET", "/_rows?table=_scheduled_functions"))[1]["rows"]
    assert {row["state"]["kind"] for row in rows} == {"success"}


@pytest.mark.parametrize(("mark", "table"), [("overdue", "notes"), ("minute", "ticks")])
async def test_a_kill_right_after_its_commit_does_not_run_it_again(
    backend: Backend, mark: str, table: str
) -> None:
    """That a scheduled function or a cron job ran stands in the very record of what it wrote."""
    await call(backend, "mutation", "notes:remind", text="overdue", inMs=MINUTE)
    await send(backend, "POST", "/_clock", {"advanceMs": MINUTE})
    await backend.kill()
    log = commit_log(backend)
    lines = log.read_bytes().splitlines(keepends=True)
    rows = [json.loads(line).get("documents", {}) for line in lines]
    wrote = [
        any(name.endswith(table) and mark in row.values() for name, row in documents.items())
        for documents in rows
    ]
    last = max(number for number, written in enumerate(wrote) if written)
    log.write_bytes(b"".join(lines[: last + 1]))

    await backend.restart()
    await send(backend, "POST", "/_clock", {"advanceMs": 0})  # what is due runs before the answer
    rows = (await send(backend, "GET", f"/_rows?table={table}"))[1]["rows"]
    assert len([row for row in rows if mark in row.values()]) == wrote.count(True)


async def test_a_scheduled_function_keeps_its_time_over_a_restart(backend: Backend) -> None:
    """It does not run early, and at once when its time passed meanwhile."""
    await call(backend, "mutation", "notes:remind", text="in an hour", inMs=60 * MINUTE)
    await backend.kill()
    await backend.restart()
    assert await call(backend, "query", "notes:list") == []
    await backend.kill()
    let_time_pass(backend, 61 * MINUTE)
    await backend.restart()
    await until_query(backend, "notes:list", ["in an hour"])


async def test_a_cron_job_keeps_its_schedule_over_a_restart(backend: Backend) -> None:
    """Runs that were missed are made up for by one."""
    [first] = await ticks(backend)
    await backend.kill()
    await backend.restart()
    assert await ticks(backend) == [first]
    await backend.kill()
    let_time_pass(backend, 10 * MINUTE)
    await backend.restart()

    async def caught_up() -> bool:
        return len(await ticks(backend)) == 2

    await until(caught_up)
    await send(backend, "POST", "/_clock", {"advanceMs": MINUTE})
    *_, last = await ticks(backend)
    assert last == pytest.approx(first + 11 * MINUTE, abs=1000)


async def ticks(backend: Backend) -> list[float]:
    """Return the times at which the job of every minute ran."""
    return [row["at"] for row in await call(backend, "query", "ticks:all") if row["by"] == "minute"]


async def test_a_torn_record_at_the_end_is_dropped(backend: Backend) -> None:
    """Its commit was never answered; all before it is there, and new ones follow it."""
    await call(backend, "mutation", "notes:add", text="whole")
    await call(backend, "mutation", "notes:add", text="torn")
    await backend.kill()
    log = commit_log(backend)
    log.write_bytes(log.read_bytes()[:-20])
    await backend.restart()
    await call(backend, "mutation", "notes:add", text="new")
    assert await call(backend, "query", "notes:list") == ["whole", "new"]
    await backend.kill()
    await backend.restart()
    assert await call(backend, "query", "notes:list") == ["whole", "new"]


async def test_a_record_broken_in_the_middle_stops_the_start(backend: Backend) -> None:
    """Answered commits come after it: going on without them would lose them in silence."""
    await call(backend, "mutation", "notes:add", text="one")
    await call(backend, "mutation", "notes:add", text="two")
    await backend.kill()
    log = commit_log(backend)
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join([*lines[:-2], lines[-2][:-20] + b"\n", lines[-1]]))
    with pytest.raises(BackendFailed, match=f"line {len(lines) - 1} is broken"):
        await backend.restart()


async def test_rows_that_the_schema_refuses_stop_the_start(
    backend: Backend, tmp_path: Path
) -> None:
    """And the message names them."""
    row_id = await call(backend, "mutation", "notes:add", text="three", rank=3)
    await backend.stop()
    functions = shutil.copytree(FUNCTIONS, tmp_path / "functions")
    schema = functions / "schema.ts"
    schema.write_text(
        schema.read_text().replace("rank: v.optional(v.number())", "rank: v.string()")
    )
    with pytest.raises(BackendFailed, match=f"refuses 1 stored document(.|\n)*{row_id}"):
        async with local_backend(backend.log.parent, functions=functions):
            pass


async def test_a_second_process_on_the_same_data_is_refused(backend: Backend) -> None:
    """Two of them would overwrite each other's commits."""
    with pytest.raises(BackendFailed, match="is in use by another local backend"):
        async with local_backend(backend.log.parent, functions=FUNCTIONS):
            pass
    assert await call(backend, "query", "notes:count") == 0
