"""The installed program, run to its end, with pipes or at a pseudo-terminal."""

import asyncio
import fcntl
import os
import pty
import signal
import struct
import termios
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from devtools.stack import PROGRAM

LIMIT = 40.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How a run of the program ended."""

    status: int
    out: str
    err: str


async def run(*arguments: str, **environment: str) -> Run:
    """Run `fondation-worker` with pipes; no traceback may be in what it says."""
    return await run_with_input(b"", *arguments, **environment)


async def run_with_input(stdin: bytes, *arguments: str, **environment: str) -> Run:
    """Run it so, with *stdin* to read."""
    process = await asyncio.create_subprocess_exec(
        *(str(PROGRAM), *arguments),
        env=_environment(environment),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(LIMIT):
            out, err = await process.communicate(stdin)
    finally:
        _kill(process)
    ended = Run(status=process.returncode or 0, out=out.decode(), err=err.decode())
    assert "Traceback" not in ended.out + ended.err, ended.err
    return ended


class Terminal:
    """A program at a pseudo-terminal."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.shown = ""

    def press_interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    async def ended(self) -> int:
        """Wait until the program has ended; return its exit status."""
        async with asyncio.timeout(LIMIT):
            return await self.process.wait()


@asynccontextmanager
async def at_a_terminal(
    *arguments: str, columns: int = 100, environment: Mapping[str, str]
) -> AsyncIterator[Terminal]:
    """Run `fondation-worker` at a terminal of so many columns; kill it at the end."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *(str(PROGRAM), *arguments),
        env=_environment({"TERM": "xterm-256color"} | dict(environment)),
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
    )
    terminal = Terminal(process)
    os.close(its)
    os.set_blocking(ours, False)

    def read() -> None:
        try:
            terminal.shown += os.read(ours, 65536).decode(errors="replace")
        except BlockingIOError:
            return
        except OSError:  # the program's side is closed
            asyncio.get_running_loop().remove_reader(ours)

    asyncio.get_running_loop().add_reader(ours, read)
    try:
        yield terminal
    finally:
        _kill(process)
        await process.wait()
        read()
        asyncio.get_running_loop().remove_reader(ours)
        os.close(ours)


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "TZ": "UTC"} | dict(environment)


def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
