"""The containers of one engine as runc knows them."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.image.images import Failed, output
from tests.image.log import LINE, Log
from tests.image.network import Tasks
from tests.image.terminal import Terminal

CGROUPS = Path("/sys/fs/cgroup")
NOT_EXECUTABLE = 126
NOT_FOUND = 127


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A runc at work: it ends as the process in the container does."""

    process: asyncio.subprocess.Process
    tasks: Tasks  # which read what it says
    terminal: Terminal | None

    async def ended(self) -> int:
        """Wait until it has ended and all it said is read; return its exit status."""
        status = await self.process.wait()
        if self.terminal is not None:
            self.terminal.close()
        await asyncio.gather(*self.tasks.running)
        await self.tasks.end()
        return status

    async def hang_up(self) -> None:
        """End it if it has not; what it ran in the container loses its terminal, if it had one."""
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.ended()

    def give(self, text: bytes) -> None:
        """Give it *text* and the end of its standard input, where it has one."""
        if self.process.stdin is not None:
            self.process.stdin.write(text)
            self.process.stdin.close()


class Runc:
    """Runs containers, and what is executed in them; its own notes are below *directory*."""

    def __init__(self, directory: Path) -> None:
        self._state = directory / "runc"
        self._log = directory / "runc.log"

    async def begin(
        self, *words: str | Path, log: Log, open_input: bool, terminal: bool
    ) -> Running:
        """Begin `runc run` or `runc exec`; what is said goes to *log*. It dies with this thread."""
        tasks = Tasks()
        runc = ("setpriv", "--pdeathsig=TERM", *self._words(*words))
        if terminal:
            tty = Terminal(lambda text: log.add("stdout", text))
            process = await asyncio.create_subprocess_exec(
                *runc,
                stdin=tty.theirs,
                stdout=tty.theirs,
                stderr=tty.theirs,
                start_new_session=True,
            )
            return Running(process=process, tasks=tasks, terminal=tty)
        process = await asyncio.create_subprocess_exec(
            *runc,
            stdin=asyncio.subprocess.PIPE if open_input else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE,
            start_new_session=True,
        )
        for stream, reader in (("stdout", process.stdout), ("stderr", process.stderr)):
            assert reader is not None
            tasks.start(log.read(stream, reader))
        return Running(process=process, tasks=tasks, terminal=None)

    async def kill(self, name: str, signal: str) -> None:
        """Send a signal to a container's first process, if it is still there."""
        with suppress(Failed):
            await output(*self._words("kill", name, signal))

    async def delete(self, name: str) -> None:
        """Forget a container that has ended."""
        await output(*self._words("delete", "--force", name))

    async def processes(self, name: str) -> list[int]:
        """Return the ids of a container's processes, as this host sees them."""
        return sorted(json.loads(await output(*self._words("ps", "--format=json", name))) or ())

    async def names(self) -> list[str]:
        """Return the names of all containers."""
        return (await output(*self._words("list", "--quiet"))).split()

    def _words(self, *words: str | Path) -> Sequence[str]:
        return ("runc", f"--root={self._state}", f"--log={self._log}", *map(str, words))


def status_of(error: str) -> int:
    """Return what docker's exit status is when runc could not start a process, and said why."""
    if "permission denied" in error:
        return NOT_EXECUTABLE
    found = "executable file not found" in error or "no such file or directory" in error
    return NOT_FOUND if found else 125


def memory_kills(cgroup: str) -> int:
    """Return how many processes of a control group the kernel has killed for want of memory."""
    for file in ("memory" + cgroup + "/memory.oom_control", cgroup[1:] + "/memory.events"):
        with suppress(OSError):
            lines = (CGROUPS / file).read_text(encoding="utf-8").splitlines()
            return int(dict(line.split() for line in lines)["oom_kill"])
    return 0


def control_groups(prefix: str) -> list[Path]:
    """Return the control groups, of whatever hierarchy, whose names begin so."""
    return [*CGROUPS.glob(f"{prefix}*"), *CGROUPS.glob(f"*/{prefix}*")]
