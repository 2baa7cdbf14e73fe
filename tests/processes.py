"""What runs on this host, for tests that must leave nothing behind."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


async def until(condition: Callable[[], object], *, limit: float = 10.0, what: str = "") -> None:
    """Wait until *condition* holds; fail after *limit* seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"waited {limit} s in vain {what}"
        await asyncio.sleep(0.02)


def command_line(pid: int) -> str:
    """Return the arguments of process *pid*, or nothing when it is gone or a zombie."""
    with suppress(OSError):
        return (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        )
    return ""


def parent_of(pid: int) -> int:
    """Return the process id of the parent of *pid*."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.partition("PPid:")[2].split()[0])


def running(marker: str) -> list[int]:
    """Return the ids of the processes that have *marker* in their arguments or their directory."""
    processes = (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [
        int(entry.name)
        for entry in processes
        if marker in command_line(int(entry.name)) + _directory(entry)
    ]


def _directory(process: Path) -> str:
    with suppress(OSError):
        return str((process / "cwd").readlink())
    return ""
