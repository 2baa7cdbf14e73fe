"""What a test does with a booted Debian: run commands, read and write files, ask systemd."""

import asyncio
import json
import shlex
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, TypeVar

from devtools.roots import layered, root
from devtools.stack import CLAUDE
from tests.processes import running
from tests.system.container import container, network_of

T = TypeVar("T")

LOOK = 0.1  # seconds between two looks
CLAUDE_CLI = "/srv/claude"  # where this host's pinned CLI is seen in every machine: it is large
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A running system. This process is in its network: what either has on loopback, both reach."""

    suite: str
    leader: int  # process id of its systemd, as this host sees it

    async def run(
        self, *argv: str, check: bool = True, given: bytes = b"", limit: float = 60
    ) -> CompletedProcess[str]:
        """Run a command in it as root, with *given* on its standard input.

        AssertionError when it fails and *check* is set, or when it takes more than *limit* seconds.
        """
        process = await asyncio.create_subprocess_exec(
            *("nsenter", f"--target={self.leader}", "--all", "--", *argv),
            env=ENVIRONMENT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(limit):
                output, errors = await process.communicate(given)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise AssertionError(f"{shlex.join(argv)}: not done after {limit} s") from None
        status = process.returncode or 0
        done = CompletedProcess(argv, status, output.decode(), errors.decode())
        assert not check or status == 0, f"{shlex.join(argv)}: exit {status}\n{both(done)}"
        return done

    async def read(self, path: str) -> str:
        """Return the text of a file in it."""
        return (await self.run("cat", path)).stdout

    async def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file of root's in it, and the directories above."""
        await self.run("install", "-D", f"--mode={mode:o}", "/dev/stdin", path, given=text.encode())

    async def copy(self, source: Path, path: str, mode: int = 0o644) -> None:
        """Copy a file of this host to *path* in it."""
        content = await asyncio.to_thread(source.read_bytes)
        await self.run("install", "-D", f"--mode={mode:o}", "/dev/stdin", path, given=content)

    async def exists(self, path: str) -> bool:
        """Tell whether there is something at *path* in it, were it a broken link."""
        found = await self.run("find", path, "-maxdepth", "0", check=False)
        return found.returncode == 0

    async def journal(self, *arguments: str) -> list[dict[str, Any]]:
        """Return the entries that `journalctl` with *arguments* finds, oldest first."""
        await self.run("journalctl", "--sync")
        printed = await self.run("journalctl", "--no-pager", "--output=json", "--all", *arguments)
        return [json.loads(line) for line in printed.stdout.splitlines()]

    async def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Return *properties* of *unit*, as `systemctl show` has them."""
        shown = await self.run("systemctl", "show", f"--property={','.join(properties)}", unit)
        lines = (line.partition("=") for line in shown.stdout.splitlines())
        return {name: value for name, _, value in lines}

    async def processes(self, unit: str) -> list[int]:
        """Return the processes in *unit*'s cgroup, as the machine numbers them."""
        group = (await self.show(unit, "ControlGroup"))["ControlGroup"]
        if not group or not await self.exists(f"/sys/fs/cgroup{group}"):
            return []
        printed = await self.run(
            "find", f"/sys/fs/cgroup{group}", "-name", "cgroup.procs", "-exec", "cat", "{}", "+"
        )
        return [int(line) for line in printed.stdout.split()]

    async def until(
        self, look: Callable[[], Awaitable[T]], *, limit: float = 20, what: str = ""
    ) -> T:
        """Return what *look* returns, once that is true; AssertionError with the journal's end."""
        deadline = time.monotonic() + limit
        while not (seen := await look()):
            if time.monotonic() > deadline:
                journal = await self.run("journalctl", "--no-pager", "--lines=40")
                raise AssertionError(
                    f"waited {limit} s in vain {what}; last seen: {seen}\n{journal.stdout}"
                )
            await asyncio.sleep(LOOK)
        return seen


@asynccontextmanager
async def booted(suite: str) -> AsyncIterator[Machine]:
    """Boot a clean Debian of that *suite*, and stay in its network until the block ends.

    Then it is powered off, and nothing of it is left: no process, mount or directory.
    """
    base = await asyncio.to_thread(root, suite, "run")
    with tempfile.TemporaryDirectory(prefix=f"fondation-{suite}-") as name:
        with layered(base) as copy:
            # A throw-away machine need not survive a loss of power.
            (copy / "etc/dpkg/dpkg.cfg.d/fast").write_text("force-unsafe-io\n", encoding="utf-8")
            (copy / "etc" / "hostname").write_text(f"{suite}\n", encoding="utf-8")
            (copy / "etc" / "hosts").write_text(f"127.0.0.1 localhost {suite}\n", encoding="utf-8")
            shown = {CLAUDE_CLI: CLAUDE.resolve()}
            async with container(copy, Path(name, "console"), suite, shown=shown) as leader:
                with network_of(leader):
                    yield Machine(suite=suite, leader=leader)
            assert running(str(copy)) == []
        assert str(copy) not in Path("/proc/mounts").read_text(encoding="utf-8")
        assert not copy.exists()


def both(done: CompletedProcess[str]) -> str:
    """Return all that a command printed."""
    return done.stdout + done.stderr
