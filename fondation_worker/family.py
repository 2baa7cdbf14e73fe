"""What this process and its descendants use, from /proc; cheap enough for every scrape.

By process ids that the kernel names as children, so a host with thousands of processes costs no
more. Memory is resident memory: pages that two of them share are counted twice, for telling them
apart takes the kernel a walk over every page.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from fondation_worker.snapshot import Family

PROC = Path("/proc")
MOST = 512  # processes that are looked at: what a job starts must not make a look expensive
_SIZES = re.compile(r"^(VmData|RssAnon|VmRSS):\s+(\d+) kB$", re.MULTILINE)
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
# Of proc_pid_stat(5), counted from the state, which follows the name: utime, stime, cutime, cstime,
# and the resident pages.
_TIMES, _RESIDENT = slice(11, 15), 21


class FamilyBook:
    """Reads the family, and remembers its CPU time: what was used is used, whoever reaped whom."""

    def __init__(self) -> None:
        self._most_cpu = 0.0

    def read(self) -> Family:
        """Return what the family uses now."""
        sizes = _own_sizes()
        cpu, rss, children = _times(PROC / "self"), 0, 0
        for pid in _descendants(os.getpid()):
            try:
                fields = _stat(PROC / str(pid))
            except OSError:  # it has ended
                continue
            children += 1
            cpu += sum(map(int, fields[_TIMES])) / _TICKS
            rss += int(fields[_RESIDENT]) * _PAGE
        self._most_cpu = max(self._most_cpu, cpu)
        return Family(
            rss=sizes.get("VmRSS", 0),
            anonymous=sizes.get("RssAnon", 0),
            data=sizes.get("VmData", 0),
            children=children,
            children_rss=rss,
            cpu=self._most_cpu,
        )


def _descendants(pid: int) -> Iterator[int]:
    """Yield the processes below *pid*, at most `MOST`."""
    left, seen = [pid], 0
    while left:
        for child in _children(left.pop()):
            if seen == MOST:
                return
            seen += 1
            left.append(child)
            yield child


def _children(pid: int) -> list[int]:
    """Return the children of a process; of each of its threads, for each has its own."""
    found: list[int] = []
    try:
        for thread in (PROC / str(pid) / "task").iterdir():
            found += map(int, (thread / "children").read_text(encoding="ascii").split())
    except OSError:  # it has ended, or this kernel does not tell
        pass
    return found


def _stat(process: Path) -> list[str]:
    """Return the fields of a process after its name, which may hold blanks. Raises OSError."""
    text = (process / "stat").read_text(encoding="utf-8", errors="replace")
    return text.rpartition(")")[2].split()


def _times(process: Path) -> float:
    return sum(map(int, _stat(process)[_TIMES])) / _TICKS


def _own_sizes() -> dict[str, int]:
    """Return figures of this process's memory, in bytes."""
    text = (PROC / "self" / "status").read_text(encoding="utf-8", errors="replace")
    return {name: int(size) * 1024 for name, size in _SIZES.findall(text)}
