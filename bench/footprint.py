"""What processes cost: memory and CPU time of one process and all its descendants, from /proc.

Linux only, and for root: a worker is not dumpable, so the kernel shows its pages to nobody else.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = 1 / os.sysconf("SC_CLK_TCK")  # seconds
_ENTRY = 8  # bytes of /proc/PID/pagemap for one page
_IN_MEMORY = 1 << 63
_FRAME = (1 << 55) - 1  # the bits of an entry that number the page frame
_PSS = re.compile(r"^Pss: +(\d+) kB$", re.MULTILINE)
_PPID, _CUTIME, _CSTIME = 1, 13, 14  # fields of /proc/PID/stat, from the state on


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """One look at the memory of a family of processes, in bytes."""

    pss: dict[int, int]  # by process id; a page that n processes of this host share counts 1/n
    alone: int  # every page once: what PSS would be if no other process shared any of them


def family(pid: int) -> list[int]:
    """Return *pid* and all its descendants. Raises FileNotFoundError when it is gone."""
    parents = {entry: int(fields[_PPID]) for entry, fields in _every_stat()}
    if pid not in parents:
        raise FileNotFoundError(PROC / str(pid))
    found = [pid]
    for member in found:  # it grows on the way
        found += [child for child, parent in parents.items() if parent == member]
    return found


def memory(pid: int) -> Memory:
    """Return what *pid* and its descendants hold in memory now. Raises PermissionError."""
    pss: dict[int, int] = {}
    frames: set[int] = set()
    for member in family(pid):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            rollup = (PROC / str(member) / "smaps_rollup").read_text(encoding="ascii")
            pss[member] = 1024 * sum(int(figure) for figure in _PSS.findall(rollup))
            frames.update(_frames(member))
    return Memory(pss=pss, alone=len(frames) * PAGE)


def cpu(pid: int) -> dict[int, float]:
    """Return the seconds of CPU time of *pid* and each descendant, so far.

    What a process's children used that ended, and were waited for, counts as its own.
    """
    used: dict[int, float] = {}
    for member in family(pid):
        with suppress(OSError):  # it has just ended, and is in its parent's figure next time
            used[member] = time.clock_gettime(_cpu_clock(member)) + _of_ended_children(member)
    return used


def name(pid: int) -> str:
    """Return what process *pid* is, in a word: the last argument before its options."""
    with suppress(OSError):
        words = (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
        scripts = [word for word in words[1:] if word and not word.startswith("-")]
        return Path(scripts[0] if scripts else words[0]).name
    return "?"


def _cpu_clock(pid: int) -> int:
    """Return the clock of process *pid*, as clock_getcpuclockid(3) makes it: to the nanosecond."""
    return ~pid << 3 | 2


def _of_ended_children(pid: int) -> float:
    fields = _stat(PROC / str(pid))
    return (int(fields[_CUTIME]) + int(fields[_CSTIME])) * TICK


def _every_stat() -> Iterator[tuple[int, list[str]]]:
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                yield int(entry.name), _stat(entry)


def _stat(process: Path) -> list[str]:
    """Return the fields of a process's stat after its name, which may hold blanks and brackets."""
    return (
        (process / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    )


def _frames(pid: int) -> Iterator[int]:
    """Yield the number of each page frame that process *pid* has mapped and in memory."""
    process = PROC / str(pid)
    with (process / "maps").open(encoding="utf-8", errors="replace") as maps:
        ranges = [line.split(maxsplit=1)[0].split("-") for line in maps]
    with (process / "pagemap").open("rb", buffering=0) as pagemap:
        for first, end in ranges:
            start, count = int(first, 16) // PAGE, (int(end, 16) - int(first, 16)) // PAGE
            with suppress(OSError, OverflowError):  # the kernel's own pages at the end of the space
                pagemap.seek(start * _ENTRY)
                entries = memoryview(pagemap.read(count * _ENTRY)).cast("Q")
                yield from (entry & _FRAME for entry in entries if entry & _IN_MEMORY)
