"""Which clock decides: never this host's wall clock, which may be wrong and may be set."""

import ast
import asyncio
from pathlib import Path

import pytest

from fondation_worker import lease
from fondation_worker.clock import boottime
from fondation_worker.errors import LeaseLost
from fondation_worker.lease import held
from fondation_worker.queue import Report
from tests.processes import until

PACKAGE = Path(lease.__file__).parent
WALL_CLOCKS = {
    "time",
    "time_ns",
    "now",
    "utcnow",
    "today",
    "localtime",
    "gmtime",
    "ctime",
    "asctime",
}
FILE_TIMES = {"st_mtime", "st_ctime", "st_atime", "st_mtime_ns", "st_ctime_ns", "st_atime_ns"}
# Who may read it, and what for.
SHOWN = {
    "doctor/checkup": "whether a login's written time has passed",
    "doctor/deployment": "the difference between both clocks, in words",
    "doctor/waiting": "how old what waits is, in words",
    "clock": "where it is defined, to be shown",
    "standby": "the time on its pages: there is no Convex to ask yet",
    "queue": "how far it is from Convex's, for people",
    "cli/options": 'what an operator means by "in two hours", on the operator\'s own host',
}


def readers(path: Path) -> set[str]:
    """Return what in the module at *path* reads a wall clock."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr in FILE_TIMES:
            found.add(node.attr)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = ast.unparse(node.func.value)
            if node.func.attr in WALL_CLOCKS and owner in {"time", "datetime", "date"}:
                found.add(f"{owner}.{node.func.attr}")
            if node.func.attr == "clock_gettime" and "BOOTTIME" not in ast.unparse(node):
                found.add(ast.unparse(node))
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            found |= {f"time.{name.name}" for name in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "wall_clock":
            found.add("wall_clock")
    return found


def test_no_decision_reads_the_wall_clock() -> None:
    """So a step of an hour, either way, has nothing to act upon."""
    found = {
        path.relative_to(PACKAGE).with_suffix("").as_posix()
        for path in PACKAGE.rglob("*.py")
        if readers(path)
    }
    assert found == set(SHOWN)


async def test_a_suspended_host_learns_that_its_lease_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CLOCK_BOOTTIME went on while everything else stood still."""
    ahead = 0.0
    monkeypatch.setattr(lease, "boottime", lambda: boottime() + ahead)

    async def renew(_: int, __: Report) -> float:
        return boottime() + ahead + 60

    ended = asyncio.Event()
    with pytest.raises(LeaseLost, match="expired"):  # noqa: PT012 the block is the work
        async with held(boottime() + 60, renew, interval=lambda: 30, lease_time=60):
            ahead = 3600.0
            try:
                await asyncio.sleep(30)
            finally:
                ended.set()
    assert ended.is_set()


async def test_what_is_urgent_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """`gathering` keeps a job from being given away; it does not wait its turn."""
    monkeypatch.setattr(lease, "REPORT_INTERVAL", 3600.0)
    told = []

    async def renew(_: int, report: Report) -> float:
        told.append(report.status)
        return boottime() + 7200

    async with held(boottime() + 7200, renew, interval=lambda: 3600, lease_time=7200) as held_one:
        await asyncio.sleep(0)
        held_one.report(status="gathering", progress="saving", step=3)
        held_one.hurry()
        await until(lambda: "gathering" in told)
    assert told == ["cloning", "gathering"]
