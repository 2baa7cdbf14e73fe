"""The control socket, asked over a real unix socket."""

import asyncio
import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from fondation_worker.config import ControlConfig
from fondation_worker.control_client import ask_control, ask_worker
from fondation_worker.pause import Pause
from fondation_worker.snapshot import Snapshot
from fondation_worker.web.control import Controls, control_server
from fondation_worker.web.health import health_of, readiness_of
from fondation_worker.web.server import Handler
from tests.snapshots import worker as worker_that_is_well

NOBODY = 65534


@dataclass
class Worker:
    """What is controlled."""

    pause: Pause
    faults: list[str] = field(default_factory=list)

    def look(self) -> Snapshot:
        """Return how it is."""
        return worker_that_is_well(paused=self.pause.reason)

    def reload(self, secrets: Mapping[str, str]) -> dict[str, list[str]]:
        """Reload."""
        return {"applied": [], "needsRestart": ["STATE_DIR", *secrets], "faults": self.faults}

    def controls(self) -> Controls:
        """Return what can be asked of it."""
        return Controls(
            look=self.look, pause=self.pause.begin, resume=self.pause.end, reload=self.reload
        )

    def pages(self) -> Mapping[str, Handler]:
        """Return what anybody may see."""
        return {"/health": health_of(self.look), "/readyz": readiness_of(self.look)}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Give a directory whose path is short enough for a socket's."""
    with contextlib.chdir(tmp_path):
        yield Path()


@asynccontextmanager
async def controlled(home: Path) -> AsyncIterator[Worker]:
    """Give a worker that answers at `control.sock` in *home*."""
    worker = Worker(Pause(home))
    async with control_server(home / "control.sock", worker.controls(), worker.pages()):
        yield worker


async def ask(home: Path, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
    """Ask, and return status and answer."""
    async with (
        aiohttp.UnixConnector(str(home / "control.sock")) as way,
        aiohttp.ClientSession(connector=way) as session,
        session.request(method, f"http://worker{path}", data=body) as answer,
    ):
        return answer.status, await answer.json()


async def test_pause_and_resume_are_answered_with_the_state(home: Path) -> None:
    """The reason is said by health as well."""
    async with controlled(home):
        paused = await ask(home, "POST", "/pause", b'{"reason": "new disks"}')
        assert paused == (200, {"paused": True, "reason": "new disks"})
        assert (await ask(home, "GET", "/health"))[1]["paused"] == "new disks"
        assert await ask(home, "POST", "/resume") == (200, {"paused": False, "reason": None})
        assert (await ask(home, "POST", "/pause"))[1]["reason"] == "no reason was given"


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"reason": 1}', b'{"reason": "\xff"}', b"[" * 200_000]
)
async def test_a_body_that_is_none_is_refused_in_words(home: Path, body: bytes) -> None:
    """And nothing is paused by mistake."""
    async with controlled(home) as worker:
        status, answer = await ask(home, "POST", "/pause", body)
        assert status == 400
        assert "reason" in answer["error"]
        assert worker.pause.reason is None


@pytest.mark.parametrize(
    "headers", [{"Content-Encoding": "gzip"}, {"Content-Type": "text/plain; charset=no-such"}]
)
async def test_what_a_header_says_of_the_body_harms_nothing(
    home: Path, headers: dict[str, str]
) -> None:
    """It is no fault of the program: no status 500, no traceback in the log."""
    async with (
        controlled(home),
        aiohttp.UnixConnector(str(home / "control.sock")) as way,
        aiohttp.ClientSession(connector=way) as session,
        session.post("http://worker/pause", data=b"{}", headers=headers, compress=False) as answer,
    ):
        assert answer.status in {200, 400}
        assert await answer.json()


async def test_a_reason_that_is_half_a_character_is_kept(home: Path) -> None:
    """As a shell with another character set sends it: paused is paused, on disk too."""
    async with controlled(home) as worker:
        status, answer = await ask(home, "POST", "/pause", b'{"reason": "new \\udcff disks"}')
        assert (status, answer["reason"]) == (200, "new ? disks")
        assert Pause(home).reason == worker.pause.reason == "new ? disks"


async def test_a_reload_tells_its_faults(home: Path) -> None:
    """With a status of its own, for programs."""
    async with controlled(home) as worker:
        assert (await ask(home, "POST", "/reload"))[0] == 200
        secrets = {"secrets": {"worker-key": "a digest"}}
        status, answer = await ask(home, "POST", "/reload", json.dumps(secrets).encode())
        assert (status, answer["needsRestart"]) == (200, ["STATE_DIR", "worker-key"])
        for wrong in (b"[]", b'{"secrets": ["worker-key"]}', b'{"secrets": {"a": 1}}', b"{"):
            assert (await ask(home, "POST", "/reload", wrong))[0] == 400
        worker.faults = ["LOG_LEVEL: 'loud' is none of …"]
        status, answer = await ask(home, "POST", "/reload")
        assert (status, answer["faults"]) == (422, worker.faults)


@pytest.mark.parametrize(("method", "path"), [("GET", "/pause"), ("POST", "/elsewhere")])
async def test_what_cannot_be_asked_is_answered_in_json(home: Path, method: str, path: str) -> None:
    """A program reads every answer in the same way."""
    async with controlled(home):
        status, answer = await ask(home, method, path)
        assert status in {404, 405}
        assert answer["error"]


async def test_a_pause_that_cannot_be_kept_is_said(home: Path) -> None:
    """It holds until the restart; nobody can make a file in /proc."""
    async with controlled(home) as worker:
        worker.pause = Pause(Path("/proc"))
    async with control_server(home / "control.sock", worker.controls(), worker.pages()):
        status, answer = await ask(home, "POST", "/pause", b'{"reason": "x"}')
        assert (status, worker.pause.reason) == (507, "x")
        assert "STATE_DIR" in answer["error"]


async def test_only_the_worker_s_user_may_use_the_socket(home: Path) -> None:
    """The file's mode says so from its first moment, and it goes with the worker."""
    async with controlled(home):
        found = (home / "control.sock").stat()
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o600
    assert not (home / "control.sock").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_another_user_is_refused_even_where_the_mode_lets_him(home: Path) -> None:
    """An operator may have opened the file to a group by mistake."""
    program = f"""
import os, sys
os.chdir({str(home.absolute())!r})
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from fondation_worker.control_client import ask_control
os.setuid({NOBODY})
print(ask_control(Path("control.sock"), "POST", "/pause"))
"""
    async with controlled(home) as worker:
        home.chmod(0o711)
        (home / "control.sock").chmod(0o666)
        asked = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", program], capture_output=True, check=False
        )
        assert b"403" in asked.stdout, asked
        assert worker.pause.reason is None


@pytest.mark.parametrize(("groups", "status"), [([0], b"(200"), ([NOBODY], b"(403")])
async def test_on_systemd_s_socket_the_worker_s_group_may_ask(
    home: Path, groups: list[int], status: bytes
) -> None:
    """The unit gave the socket to that group; who is in none of it is refused all the same."""
    program = f"""
import os, sys
os.chdir({str(home.absolute())!r})
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from fondation_worker.control_client import ask_control
os.setgroups({groups})
os.setgid({NOBODY})
os.setuid({NOBODY})
print(ask_control(Path("1.sock"), "POST", "/pause"))
"""
    worker = Worker(pause=Pause(home))
    with socket.socket(socket.AF_UNIX) as handed_over:
        handed_over.bind("1.sock")
        home.chmod(0o711)
        (home / "1.sock").chmod(0o666)
        async with control_server(
            home / "unused.sock", worker.controls(), worker.pages(), inherited=(handed_over,)
        ):
            asked = await asyncio.to_thread(
                subprocess.run, [sys.executable, "-c", program], capture_output=True, check=False
            )
        assert asked.stdout.startswith(status), asked
        assert not (home / "unused.sock").exists()


async def test_where_a_socket_cannot_be_had_the_other_is_used(home: Path) -> None:
    """In a directory that is not ours to write to; the client finds it there."""
    worker = Worker(pause=Pause(home))
    wanted, fallback = Path("/proc/1.sock"), home / "control.sock"
    config = ControlConfig(
        control_socket=wanted, fallback_socket=fallback, health_address=None, instance=None
    )
    async with control_server(wanted, worker.controls(), worker.pages(), fallback=fallback):
        status, answer = await asyncio.to_thread(ask_worker, config, "GET", "/health")
        assert (status, answer["workerId"]) == (200, "w")


async def test_a_dead_worker_s_socket_is_replaced(home: Path) -> None:
    """SIGKILL leaves the file."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind("control.sock")
        dead.listen()
    async with controlled(home):
        status, _ = await asyncio.to_thread(ask_control, home / "control.sock", "GET", "/health")
        assert status == 200


async def test_a_living_worker_s_socket_is_left_alone(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The second worker of a STATE_DIR says so and works on; the first goes on answering."""
    async with controlled(home):
        async with controlled(home):
            assert "another worker has this control socket; set CONTROL_SOCKET" in caplog.text
            assert (await ask(home, "POST", "/pause", b"{}"))[0] == 200
        assert (await ask(home, "GET", "/health"))[0] == 200


@pytest.mark.parametrize("kind", ["file", "stranger", "nowhere", "too long"])
async def test_a_path_that_cannot_be_had_is_said_and_nothing_is_harmed(
    home: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """A file of somebody else's, another program's socket, a directory that is not there."""
    path = home / "control.sock"
    with contextlib.ExitStack() as things:
        match kind:
            case "file":
                path.write_text("precious", encoding="utf-8")
            case "stranger":
                other = things.enter_context(socket.socket(socket.AF_UNIX))
                other.bind(str(path))
                other.listen()
            case "nowhere":
                path = home / "nowhere" / "control.sock"
            case "too long":
                path = home / ("x" * 120)
        async with control_server(path, Worker(Pause(home)).controls(), {}):
            assert "set CONTROL_SOCKET" in caplog.text
    assert kind != "file" or path.read_text(encoding="utf-8") == "precious"
    assert kind != "stranger" or path.is_socket()
