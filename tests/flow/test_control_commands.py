"""`health`, `pause`, `resume`, `reload`, and a job from end to end, with a worker that runs."""

import asyncio
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from devtools.stack import PROGRAM
from fondation_worker.control_client import ask_health
from tests.fakes.messages_api import say
from tests.flow.stage import on_stage
from tests.processes import until
from tests.terminals import at_a_terminal, run


async def test_a_worker_is_looked_at_paused_resumed_and_reloaded(tmp_path: Path) -> None:
    """All over its socket; its health over HEALTH_ADDRESS too."""
    file = tmp_path / "worker.conf"
    file.write_text("[worker]\npoll_interval = 1s\nlog_level = info\n")
    async with on_stage(tmp_path, say("never")) as stage:
        worker = await stage.worker((str(PROGRAM), "run", "--config", str(file)))
        there = {"STATE_DIR": str(tmp_path / "worker-1" / "state")}
        await until(lambda: "control: " in worker.messages(), limit=30)
        seen = await run("health", **there)
        assert seen.status == 0, seen.err
        assert seen.out.startswith(("healthy: ", "degraded: "))
        assert "0 of 1 slots busy" in seen.out
        document = json.loads((await run("health", "--json", **there)).out)
        assert document["activeJobs"] == 0

        paused = await run("pause", "--reason", "new \x1bdisks", **there)
        assert (paused.status, "running jobs go on" in paused.out) == (0, True)
        seen = await run("health", **there)
        assert (seen.status, seen.out.splitlines()[0].split(":")[0]) == (0, "degraded")
        assert "new \\x1bdisks" in seen.out
        resumed = await run("resume", "--json", **there)
        assert json.loads(resumed.out)["paused"] is False

        (line,) = (line for line in worker.lines() if line["message"].startswith("health: "))
        address = line["message"].removeprefix("health: http://").removesuffix("/health")
        seen = await run("health", STATE_DIR="/nonexistent", HEALTH_ADDRESS=address)
        assert seen.status == 0, seen.err

        file.write_text("[worker]\npoll_interval = soon\nlog_level = loud\n")
        faulty = await run("reload", **there)
        assert (faulty.status, faulty.out) == (1, "")
        assert "nothing was applied" in faulty.err
        file.write_text("[worker]\npoll_interval = 1s\nlog_level = debug\n")
        done = await run("reload", **there)
        assert done.status == 0, done.err


async def test_a_job_from_the_command_line_to_its_files(tmp_path: Path) -> None:
    """Put in, waited for with a bar, its log read, its documents written, the worker listed."""
    async with on_stage(tmp_path, say("# All about it\n\nIt is small.\n")) as stage:
        await stage.worker()
        operator = {"CONVEX_URL": stage.backend.url, "OPERATOR_KEY": stage.keys.operator}
        command = ("jobs", "enqueue", "--prompt", "look", "--clone-url", stage.repository.url)
        async with at_a_terminal(*command, "--wait", environment=operator) as terminal:
            assert await terminal.ended() == 0, terminal.shown
        job_id = terminal.shown.split()[0].strip()
        assert "━" in terminal.shown
        assert f"{job_id} is completed: 1 document(s)" in terminal.shown
        shown = json.loads((await run("jobs", "show", job_id, "--json", **operator)).out)
        assert (shown["status"], shown["docsCount"], shown["attempts"]) == ("completed", 1, 1)
        listed = json.loads((await run("workers", "--json", **operator)).out)["workers"]
        assert [row["workerId"] for row in listed] == [shown["workerId"]]
        saved = await run("jobs", "docs", job_id, "--to", str(tmp_path / "docs"), **operator)
        assert saved.status == 0, saved.err
        (file,) = (tmp_path / "docs").iterdir()
        assert file.read_text(encoding="utf-8") == "# All about it\n\nIt is small.\n"
        logs = await run("jobs", "logs", job_id, "-f", **operator)
        assert logs.status == 0, logs.err


@pytest.mark.parametrize("command", ["health", "pause", "resume", "reload"])
async def test_no_worker_is_1_with_words(tmp_path: Path, command: str) -> None:
    """No socket, one that nobody listens at, a file that is none, a path that is too long."""
    (tmp_path / "file").touch()
    port = {"HEALTH_ADDRESS": "off"}
    for made, said in (
        (lambda _: None, "is a worker running"),
        (_left_behind, "the worker that made it is gone"),
    ):
        made(tmp_path / "control.sock")
        done = await run(command, STATE_DIR=str(tmp_path), **port)
        assert (done.status, done.out) == (1, "")
        assert said in done.err
        assert str(tmp_path / "control.sock") in done.err
    none = await run(command, CONTROL_SOCKET=str(tmp_path / "file"), **port)
    assert (none.status, "is no socket: is CONTROL_SOCKET right?" in none.err) == (1, True)
    deep = await run(command, STATE_DIR=f"/{'x' * 120}", **port)
    assert deep.status == 1


def _left_behind(path: Path) -> None:
    """Make a socket as a worker that was killed leaves it."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


async def test_a_worker_that_hangs_is_not_taken_for_its_neighbour(tmp_path: Path) -> None:
    """Its socket is there and mute: who answers at HEALTH_ADDRESS is another worker, and well."""
    health = b'{"status": "healthy", "workerId": "neighbour"}'

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(health), health))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "control.sock"))
        mute.listen()
        async with server:
            address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            done = await run("health", STATE_DIR=str(tmp_path), HEALTH_ADDRESS=address)
    assert (done.status, done.out) == (1, "")
    assert "is there and did not answer" in done.err


async def test_health_tells_what_waits_and_whose_clock_is_off(tmp_path: Path) -> None:
    """As JSON does; nothing of it where all is well."""
    answers: list[dict[str, Any]] = [
        {
            "outbox": {"waiting": 2, "oldestSeconds": 300, "refused": 1},
            "convex": {"skewSeconds": -7200.5},
        },
        {
            "outbox": {"waiting": 0, "oldestSeconds": None, "refused": 0},
            "convex": {"skewSeconds": 0.4},
        },
        {"outbox": None, "convex": None},
    ]
    shown: list[list[str]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = json.dumps({"status": "degraded", "workerId": "w"} | answers[len(shown)]).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(answer, tmp_path / "control.sock"):
        for _ in answers:
            done = await run("health", STATE_DIR=str(tmp_path), HEALTH_ADDRESS="off")
            assert done.status == 0, done.err
            shown.append(done.out.splitlines()[1:])
    assert shown == [
        [
            "  outbox: 2 finished results wait to be handed in, the oldest for 5 min",
            "  outbox: 1 results could not be handed in: STATE_DIR/refused/",
            "  Convex's clock is 2 h behind this host's",
        ],
        [],
        [],
    ]


@pytest.mark.parametrize("body", [b"ok", b"[]", b"{}", b'{"status": "UP"}'])
async def test_health_of_something_else_is_1(tmp_path: Path, body: bytes) -> None:
    """Another program may have the port: that it answers is no health."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        done = await run("health", STATE_DIR=str(tmp_path), HEALTH_ADDRESS=f"127.0.0.1:{port}")
    assert (done.status, done.out) == (1, "")
    assert "is no worker" in done.err


def test_an_address_to_listen_at_is_asked_on_this_host() -> None:
    """0.0.0.0 is where a worker in a container listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        with pytest.raises(Exception, match=rf"no worker answers at 127\.0\.0\.1:{port}"):
            ask_health(("0.0.0.0", port))  # noqa: S104 what is asked is this host


@pytest.mark.parametrize(
    ("imported", "not_needed"),
    [
        ("fondation_worker.daemon", "rich"),
        ("fondation_worker.cli.main", "rich aiohttp"),
        ("fondation_worker.cli.control", "rich aiohttp msgspec"),
    ],
)
def test_what_is_slow_is_imported_by_those_who_need_it(imported: str, not_needed: str) -> None:
    """A worker shows nothing, and a container asks for the health twice a minute."""
    code = f"import sys, {imported}; print([m for m in {not_needed.split()} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
