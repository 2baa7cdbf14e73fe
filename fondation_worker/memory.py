"""How often the kernel killed a process because memory had run out."""

import re
from contextlib import suppress
from pathlib import Path

_KILLS = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
_GROUP = re.compile(r"^0::(/.*)$", re.MULTILINE)


def kills(root: Path = Path("/")) -> int:
    """Return how often that happened so far: in this process's cgroup, else on the whole host."""
    with suppress(OSError):
        group = _GROUP.search((root / "proc/self/cgroup").read_text(encoding="utf-8"))
        if group:
            events = root / "sys/fs/cgroup" / group[1].lstrip("/") / "memory.events"
            return _count(events.read_text(encoding="utf-8"))
    with suppress(OSError):
        return _count((root / "proc/vmstat").read_text(encoding="utf-8"))
    return 0


def _count(text: str) -> int:
    found = _KILLS.search(text)
    return int(found[1]) if found else 0
