"""The package on a machine, as an administrator handles it: installed, configured, looked at."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from devtools.stack import PLACEHOLDER
from tests.outside import Outside
from tests.system.machine import CLAUDE_CLI, Machine

ETC = "/etc/fondation-worker"
WORKER_CONF = f"{ETC}/worker.conf"
CREDENTIALS = f"{ETC}/credentials"
DROP_IN = "/etc/systemd/system/fondation-worker@.service.d"
BETWEEN = 0.01  # seconds between two requests of a stream
CERTIFICATE = "/etc/ssl/test-repositories.pem"

# Any host: this one may be busy or full. A stop ends a run at once.
SETTINGS = {
    "poll_interval": "1s",
    "disk_floor": "0",
    "memory_pressure_limit": "100",
    "drain_time": "0",
}


@dataclass(slots=True, kw_only=True)
class Site:
    """A machine with the package on it, or about to have it."""

    machine: Machine
    outside: Outside
    settings: dict[str, str] = field(default_factory=dict)

    async def configure(self, **changes: str) -> None:
        """Write worker.conf: what a worker here needs, with *changes* of it that stay."""
        self.settings |= changes
        known = {
            "convex_url": self.outside.backend.url,
            "anthropic_base_url": self.outside.api.url,
            **SETTINGS,
            **self.settings,
        }
        lines = [f"{name} = {value}\n" for name, value in known.items()]
        await self.machine.write(WORKER_CONF, "".join(["[worker]\n", *lines]))

    async def give_secrets(self, **secrets: str) -> None:
        """Write the secrets that the worker is handed: its key, and one for the model."""
        known = {
            "worker-key": self.outside.keys.worker,
            "operator-key": self.outside.keys.operator,
            "anthropic-api-key": PLACEHOLDER,
        }
        for name, value in (known | secrets).items():
            await self.machine.write(f"{CREDENTIALS}/{name}", f"{value}\n", 0o600)

    async def give_claude(self) -> None:
        """Put the pinned CLI where the unit looks for it."""
        await self.machine.run("mkdir", "--parents", "/opt/fondation-worker/bin")
        await self.machine.run("ln", "-s", CLAUDE_CLI, "/opt/fondation-worker/bin/claude")

    async def trust_repositories(self) -> None:
        """Let git trust the server of our repositories, by the environment of the unit."""
        await self.machine.copy(self.outside.git.certificate, CERTIFICATE)
        await self.machine.write("/etc/default/fondation-worker", f"GIT_SSL_CAINFO={CERTIFICATE}\n")

    async def drop_in(self, name: str, text: str) -> None:
        """Give all workers' unit a drop-in, as `systemctl edit` does."""
        await self.machine.write(f"{DROP_IN}/{name}.conf", text)
        await self.machine.run("systemctl", "daemon-reload")

    async def no_drop_in(self, name: str) -> None:
        """Take it away again."""
        await self.machine.run("rm", "-f", f"{DROP_IN}/{name}.conf")
        await self.machine.run("systemctl", "daemon-reload")

    async def systemctl(self, verb: str, *instances: int) -> None:
        """Do something to some workers; AssertionError, with their journal, when it fails."""
        units = [service(number) for number in instances]
        done = await self.machine.run("systemctl", verb, *units, check=False, limit=120)
        if done.returncode != 0:
            status = await self.machine.run("systemctl", "status", "-n60", *units, check=False)
            raise AssertionError(f"systemctl {verb}: {done.stderr}\n{status.stdout}")

    async def stop(self, *instances: int) -> None:
        """Stop some workers; wait until their sockets are closed too, a moment later."""
        await self.systemctl("stop", *instances)
        units = [unit for number in instances for unit in (service(number), socket_of(number))]
        await self.become("inactive", *units)

    async def only(self, number: int) -> None:
        """Let one of the two workers run and the other not, so that it is who does the next job."""
        await self.stop(3 - number)
        await self.systemctl("start", number)
        await self.becomes_ready(number)

    async def become(self, state: str, *units: str) -> None:
        """Wait until all *units* are in this ActiveState."""

        async def look() -> bool:
            shown = [await self.machine.show(unit, "ActiveState") for unit in units]
            return all(each["ActiveState"] == state for each in shown)

        await self.machine.until(look, limit=60, what=f"for {units} to be {state}")

    async def main_pid(self, number: int = 1) -> int:
        """Return the main process of a worker, as the machine numbers it; 0 when there is none."""
        return int((await self.machine.show(service(number), "MainPID"))["MainPID"])

    def another_than(self, pid: int, number: int = 1) -> Callable[[], Awaitable[bool]]:
        """Return what tells whether a worker has another main process than this."""

        async def look() -> bool:
            return await self.main_pid(number) not in {0, pid}

        return look

    async def state(self, number: int = 1) -> str:
        """Return the ActiveState of a worker."""
        return (await self.machine.show(service(number), "ActiveState"))["ActiveState"]

    async def status(self, number: int = 1) -> str:
        """Return what the worker itself says of how it is."""
        return (await self.machine.show(service(number), "StatusText"))["StatusText"]

    async def says(self, words: str, number: int = 1, *, limit: float = 20) -> str:
        """Wait until the worker's own status contains *words*; return it."""

        async def look() -> str:
            seen = await self.status(number)
            return seen if words in seen else ""

        return await self.machine.until(look, limit=limit, what=f"for the status {words!r}")

    async def health(self, number: int = 1) -> dict[str, Any]:
        """Return what a worker's /health answers."""
        async with aiohttp.ClientSession() as session, session.get(url(number)) as answer:
            document: dict[str, Any] = await answer.json()
            return document

    async def readiness(self, number: int = 1) -> tuple[int, str]:
        """Return status and text of a worker's /readyz."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(url(number, "readyz")) as answer,
        ):
            return answer.status, (await answer.text()).strip()

    async def becomes_ready(self, number: int = 1, *, limit: float = 30) -> None:
        """Wait until a worker's /readyz says so."""

        async def look() -> bool:
            return await self.readiness(number) == (200, "ready")

        await self.machine.until(look, limit=limit, what="for /readyz")

    async def events(self, name: str, number: int = 1) -> list[dict[str, Any]]:
        """Return the journal's entries of one kind, of one worker."""
        return await self.machine.journal(
            f"FONDATION_EVENT={name}", f"_SYSTEMD_UNIT={service(number)}"
        )

    async def runs_of_claude(self) -> list[int]:
        """Return the processes of the CLI, as the machine numbers them."""
        found = await self.machine.run("pgrep", "--exact", "claude", check=False)
        return [int(line) for line in found.stdout.split()]

    @contextmanager
    def taken_port(self, number: int) -> Iterator[None]:
        """Have somebody else listen where a worker would answer."""
        with closing(socket.create_server((f"127.0.0.{number}", 8080))):
            yield

    @asynccontextmanager
    async def asked_all_the_time(self, number: int = 1) -> AsyncIterator[list[int]]:
        """Ask for /health without a pause meanwhile; give the list of the answers' statuses.

        A request that finds no answer ends the block with its error.
        """
        answers: list[int] = []
        over = asyncio.Event()

        async def ask() -> None:
            while not over.is_set():
                async with aiohttp.request("GET", url(number)) as answer:
                    answers.append(answer.status)
                await asyncio.sleep(BETWEEN)

        async with asyncio.TaskGroup() as group:
            group.create_task(ask())
            try:
                yield answers
            finally:
                over.set()


def service(number: int) -> str:
    """Return the name of a worker's service."""
    return f"fondation-worker@{number}.service"


def socket_of(number: int) -> str:
    """Return the name of a worker's socket unit."""
    return f"fondation-worker@{number}.socket"


def url(number: int, page: str = "health") -> str:
    """Return where a worker answers for one page."""
    return f"http://127.0.0.{number}:8080/{page}"
