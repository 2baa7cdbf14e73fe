"""The installed program as a service manager has it: what it is told, and an upgrade."""

import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from devtools.stack import WorkerProcess
from tests.fakes.messages_api import Script, Stall, Status, Turn, say, when
from tests.flow.stage import SHORT_LEASE, on_stage
from tests.processes import until

# What the program is, with a way to ask which modules it has: SIGUSR2 writes their names.
ASKED_FOR_MODULES = """
import pathlib, signal, sys
where = pathlib.Path(sys.argv.pop(1))
def tell(*_):
    draft = where.with_suffix(".draft")
    draft.write_text("\\n".join(sorted(sys.modules)))
    draft.rename(where)
signal.signal(signal.SIGUSR2, tell)
from fondation_worker.cli import main
main()
"""


@dataclass(slots=True)
class ServiceManager:
    """Listens where a service says how it is, as systemd does: all the time.

    The kernel keeps ten messages for who does not; what comes then is lost.
    """

    messages: list[list[str]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def listen(self, listener: socket.socket) -> None:
        """Take every message until it is over."""
        while not self.over.is_set():
            with suppress(TimeoutError):
                self.messages.append(listener.recv(4096).decode().splitlines())

    def heard(self) -> list[list[str]]:
        """Return the lines of every message so far."""
        return list(self.messages)

    def said(self, line: str) -> bool:
        """Whether some message had this line."""
        return any(line in message for message in self.heard())

    def status(self) -> str:
        """Return the last status."""
        lines = [line for message in self.heard() for line in message]
        return next((line for line in reversed(lines) if line.startswith("STATUS=")), "")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ServiceManager]:
    """Give a manager that listens at TMP_PATH/notify."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(0.1)
        listening = ServiceManager()
        thread = threading.Thread(target=listening.listen, args=(listener,))
        thread.start()
        yield listening
        listening.over.set()
        thread.join()


async def readiness(worker: WorkerProcess) -> tuple[int, str]:
    """Return what /readyz answers."""
    (line,) = (line for line in worker.lines() if line["message"].startswith("health: "))
    url = line["message"].removeprefix("health: ").replace("/health", "/readyz")
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


def service(tmp_path: Path, **settings: str) -> dict[str, str]:
    """Return the settings and variables of a worker with a service manager."""
    return {
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": "1000000",
        "HEALTH_ADDRESS": "127.0.0.1:0",
    } | settings


async def test_systemd_is_told_how_the_worker_is(tmp_path: Path, manager: ServiceManager) -> None:
    """Ready after the first contact, its state in words, alive, and that it stops."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        worker = await stage.worker(**service(tmp_path))
        await until(lambda: manager.said("READY=1"), limit=20)
        assert manager.said("STATUS=starting: asking Convex")
        job_id = await stage.enqueue()
        assert (await stage.ended(job_id))["status"] == "completed"
        done = "0 of 1 slots busy · convex ok (push) · last job just now: completed"
        await stage.push_is_up(worker)
        await until(lambda: manager.status() == f"STATUS={done}", what=manager.status())
        assert any("1 of 1 slots busy" in line for message in manager.messages for line in message)
        assert await readiness(worker) == (200, "ready\n")
        beats = manager.heard().count(["WATCHDOG=1"])
        await until(lambda: manager.heard().count(["WATCHDOG=1"]) > beats)
        worker.signal(signal.SIGTERM)
        await until(lambda: manager.said("STOPPING=1"))
        assert await worker.ended() == 0


async def test_a_worker_that_cannot_reach_convex_is_up_and_not_ready(
    tmp_path: Path, manager: ServiceManager
) -> None:
    """An outage is no reason not to start; the watchdog stays fed."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        worker = await stage.worker(**service(tmp_path, CONVEX_URL="http://127.0.0.1:9"))
        await until(lambda: manager.said("READY=1"), limit=20)
        assert manager.status().startswith("STATUS=Convex unreachable, retrying · 0 of 1")
        status, reason = await readiness(worker)
        assert status == 503
        assert reason.startswith("Convex: ")
        assert reason.count("\n") == 1
        beats = manager.heard().count(["WATCHDOG=1"])
        await until(lambda: manager.heard().count(["WATCHDOG=1"]) > beats + 1)
        assert any(line.get("event") == "convex_unreachable" for line in worker.lines())


async def test_a_reload_is_told_from_its_begin_to_its_end(
    tmp_path: Path, manager: ServiceManager
) -> None:
    """Newer versions of systemd wait for both, with the time of the first."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        worker = await stage.worker(**service(tmp_path))
        await until(lambda: manager.said("READY=1"), limit=20)
        worker.signal(signal.SIGHUP)
        await until(lambda: manager.said("RELOADING=1"))
        begin = next(at for at, lines in enumerate(manager.heard()) if "RELOADING=1" in lines)
        assert manager.messages[begin][1].startswith("MONOTONIC_USEC=")
        await until(lambda: any("READY=1" in lines for lines in manager.heard()[begin:]))


async def test_more_time_is_asked_for_while_jobs_drain(
    tmp_path: Path, manager: ServiceManager
) -> None:
    """A long drain must not end at the unit's own time limit."""
    stall = Stall(at="headers", times=None)
    async with on_stage(tmp_path, say("# Done\n", stall)) as stage:
        worker = await stage.worker(**service(tmp_path, DRAIN_TIME="2s"))
        await stage.job_in(await stage.enqueue(), "analyzing")
        worker.signal(signal.SIGTERM)
        await until(lambda: manager.said("EXTEND_TIMEOUT_USEC=15000000"))
        await until(lambda: "stopping" in manager.status())
        assert await worker.ended() == 0


async def test_an_idle_worker_leaves_at_once_after_an_upgrade(tmp_path: Path) -> None:
    """With the status for which systemd starts it again."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        worker = await stage.worker()
        await stage.ended(await stage.enqueue())
        worker.signal(signal.SIGUSR1)
        assert await worker.ended() == 75


async def test_a_busy_worker_ends_its_job_before_it_leaves(tmp_path: Path) -> None:
    """And claims nothing more: the next job is the next version's."""
    script = [
        when("slow", Script(turns=(Turn(text="# Slow\n", delay=4),))),
        when("quick", say("# Quick\n")),
    ]
    async with on_stage(tmp_path, script) as stage:
        worker = await stage.worker(MAX_CONCURRENT_JOBS="2", **SHORT_LEASE)
        slow = await stage.enqueue("slow")
        await stage.job_in(slow, "analyzing")
        worker.signal(signal.SIGUSR1)
        await until(lambda: "upgraded: 1 jobs may run on" in worker.messages())
        waiting = await stage.enqueue("quick")
        assert await worker.ended() == 75
        assert (await stage.queue.job(slow))["status"] == "completed"
        assert (await stage.queue.job(waiting))["status"] == "pending"
        await stage.worker()
        assert (await stage.ended(waiting))["status"] == "completed"
        assert stage.runs() == 2


async def test_a_job_that_outlasts_the_upgrade_is_given_back(tmp_path: Path) -> None:
    """After UPGRADE_DRAIN it is a stop, with its own drain."""
    stall = Stall(at="headers", times=None)
    async with on_stage(tmp_path, say("# Done\n", stall)) as stage:
        worker = await stage.worker(UPGRADE_DRAIN="1s", DRAIN_TIME="1s")
        job_id = await stage.enqueue()
        await stage.job_in(job_id, "analyzing")
        worker.signal(signal.SIGUSR1)
        assert await worker.ended() == 75
        row = await stage.queue.job(job_id)
        assert (row["status"], row["attempts"]) == ("pending", 0)


async def test_no_module_is_loaded_after_the_start(tmp_path: Path, manager: ServiceManager) -> None:
    """Else an upgrade under a running worker would mix two versions in one process."""
    names = tmp_path / "modules"
    program = (sys.executable, "-c", ASKED_FOR_MODULES, str(names), "run")
    big = f"# Big\n{'word ' * 20_000}"  # goes to file storage
    script = [when("refused", say("", Status(code=401))), when("", say(big))]
    async with on_stage(tmp_path, script) as stage:
        worker = await stage.worker(program, **service(tmp_path))
        await until(lambda: manager.said("READY=1"), limit=20)

        async def modules() -> set[str]:
            names.unlink(missing_ok=True)
            worker.signal(signal.SIGUSR2)
            await until(names.exists)
            return set(names.read_text(encoding="utf-8").split())

        before = await modules()
        assert "fondation_worker.claude" in before
        assert (await stage.ended(await stage.enqueue()))["status"] == "completed"
        missing = await stage.enqueue(cloneUrl=f"{stage.repository.url}-missing")
        assert (await stage.ended(missing))["status"] == "dead"
        worker.signal(signal.SIGHUP)
        await until(lambda: "reloaded" in worker.messages())
        refused = await stage.enqueue("refused")
        await until(lambda: "credential refused" in worker.messages(), limit=20)
        await stage.queue.cancel(refused)
        assert await modules() - before == set()
