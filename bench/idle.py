"""`./dev bench idle`: what a worker costs that has nothing to do, against the budget for it.

A worker with its defaults, of a deployment without jobs, is watched once push is up and it has
settled. Its memory, CPU time and calls are those of the worker and every descendant, its push child
above all. The exit status is 0 when each is within its budget, 1 when not.

Memory is judged by the most that was there at one look, every page of the family counted once.
PSS, which is shown beside it, shares a library's pages with every other process of this host that
maps them, this bench among them: it says less than the same worker holds on a host of its own.
CPU time is the kernel's, to the nanosecond, with that of children that ended meanwhile.
Calls are HTTP requests, counted at a proxy between worker and backend that also speaks TLS, as a
deployment would. Answers of subscriptions, which the backend runs again for a change, go over the
push child's socket and are counted apart.

An hour of it with push up: 12 reports of the state (`presence.NOT_LATER`), and at most 12 safety
polls (`wakeup.SAFETY_POLL`) however many slots there are: 24 calls. The pulse is 60 answers.

`--pid` and `--unit` watch a worker that runs already: memory and CPU time only.
"""

import argparse
import asyncio
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import aiohttp
from rich.console import Console
from rich.table import Table

from bench.footprint import Memory, cpu, memory, name
from bench.turnstile import Counts, turnstile
from devtools.backend import REPOSITORY, local_backend
from devtools.stack import Keys, WorkerProcess, worker, worker_environment

HOME = REPOSITORY / ".demo"
MIB = 1 << 20
HOUR = 3600.0  # seconds
LOOK = 5.0  # seconds between two looks at the memory
PUSH_LIMIT = 120.0  # seconds until push is up; the pulse comes once a minute
MOST_MEMORY = 70 * MIB
MOST_CPU = 0.001  # of a core
MOST_CALLS = 30  # an hour
_HEALTH = re.compile(r"health: (http://\S+)")

console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What was seen in *seconds*."""

    seconds: float
    looks: list[Memory]
    cpu: dict[int, float]  # seconds of CPU time, by process id
    names: dict[int, str]
    counts: Counts | None  # None: what went to Convex is not known

    @property
    def memory(self) -> int:
        """The most that was held at once, in bytes."""
        return max(look.alone for look in self.looks)

    @property
    def share(self) -> float:
        """The share of a core."""
        return sum(self.cpu.values()) / self.seconds

    @property
    def calls(self) -> float | None:
        """Calls an hour."""
        return None if self.counts is None else self.counts.calls.total() * HOUR / self.seconds


def main() -> int:
    """Do what the arguments say; print what was found."""
    parser = argparse.ArgumentParser(prog="./dev bench idle", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300, help="how long to watch")
    parser.add_argument("--settle", type=float, default=20, help="seconds to wait before")
    parser.add_argument("--slots", type=int, default=1, help="MAX_CONCURRENT_JOBS")
    parser.add_argument("--pid", type=int, help="watch this process, which runs already")
    parser.add_argument("--unit", help="the same by its unit: fondation-worker@1.service")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("the kernel shows a worker's pages to root only")
    if arguments.unit:
        arguments.pid = _main_process(arguments.unit)
    try:
        findings = asyncio.run(_measured(arguments))
    except KeyboardInterrupt:
        return 130
    except FileNotFoundError as error:
        raise SystemExit(f"it is not there, or has ended meanwhile: {error}") from None
    return 0 if report(findings) else 1


async def _measured(arguments: argparse.Namespace) -> Findings:
    if arguments.pid:
        return await watch(arguments.pid, arguments.seconds)
    home = HOME / f"idle-{secrets.token_hex(4)}"
    settings = {"MAX_CONCURRENT_JOBS": str(arguments.slots)}
    try:
        async with idle_worker(home, settings) as (process, counts):
            console.print(f"push is up; settling for {arguments.settle:g} s")
            await asyncio.sleep(arguments.settle)
            return await watch(process.pid, arguments.seconds, counts)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@asynccontextmanager
async def idle_worker(
    home: Path, settings: Mapping[str, str]
) -> AsyncIterator[tuple[WorkerProcess, Counts]]:
    """Run a worker that has nothing to do, with push up; count what it sends."""
    keys = Keys.new()
    async with (
        local_backend(home / "convex", environ=keys.deployment) as backend,
        turnstile(backend.url, home / "certificate") as gate,
    ):
        environment = worker_environment(gate.url, keys, home, api=None)
        del environment["DISK_FLOOR"]
        environment.pop("SSL_CERT_FILE", None)
        async with worker(environment | gate.environment | dict(settings), home / "log") as process:
            await _push_is_up(process)
            yield process, gate.counts


async def _push_is_up(process: WorkerProcess) -> None:
    """Wait until the worker says so. Raises TimeoutError, or RuntimeError when it has ended."""
    async with asyncio.timeout(PUSH_LIMIT), aiohttp.ClientSession() as session:
        while process.exit_status is None:
            await asyncio.sleep(1)
            if found := _HEALTH.search(process.messages()):
                async with session.get(found[1]) as answer:
                    if (await answer.json())["convex"]["wakeUp"] == "push":
                        return
    raise RuntimeError(f"the worker has ended:\n{process.messages()}")


async def watch(pid: int, seconds: float, counts: Counts | None = None) -> Findings:
    """Watch process *pid* and its descendants for so long, leaving them alone."""
    if counts:
        counts.clear()
    began, before = time.monotonic(), cpu(pid)
    looks: list[Memory] = []
    names: dict[int, str] = {}
    while (left := began + seconds - time.monotonic()) > 0:
        looks.append(memory(pid))
        names |= {member: name(member) for member in looks[-1].pss if member not in names}
        await asyncio.sleep(min(LOOK, left))
    used = {member: total - before.get(member, 0) for member, total in cpu(pid).items()}
    return Findings(
        seconds=time.monotonic() - began,
        looks=looks,
        cpu=used,
        names=names,
        counts=deepcopy(counts),  # what is said at its end is not said in these seconds
    )


def report(found: Findings) -> bool:
    """Print what was found; return whether all of it is within the budget."""
    console.print(f"watched for {found.seconds:.0f} s, {len(found.looks)} looks at the memory")
    console.print(_by_process(found))
    if found.counts:
        console.print(_by_function(found.counts, found.seconds))
    results = [
        _judged("memory, MiB, each page once", found.memory / MIB, MOST_MEMORY / MIB, "1f"),
        _judged("CPU, % of a core", found.share * 100, MOST_CPU * 100, "4f"),
    ]
    if found.calls is not None:
        results.append(_judged("HTTP calls to Convex an hour", found.calls, MOST_CALLS, "0f"))
    return all(results)


def _by_process(found: Findings) -> Table:
    """Return memory and CPU time of each process."""
    table = Table("process", "PSS median", "PSS max", "CPU, ms", "% of a core")
    for pid, process in found.names.items():
        seen = [look.pss[pid] / MIB for look in found.looks if pid in look.pss]
        used = found.cpu.get(pid, 0)
        table.add_row(
            f"{process} ({pid})",
            f"{median(seen):.1f} MiB",
            f"{max(seen):.1f} MiB",
            f"{used * 1000:.1f}",
            f"{used / found.seconds * 100:.4f}",
        )
    together = [sum(look.pss.values()) / MIB for look in found.looks]
    used = sum(found.cpu.values())
    table.add_row(
        "all",
        f"{median(together):.1f} MiB",
        f"{max(together):.1f} MiB",
        f"{used * 1000:.1f}",
        f"{found.share * 100:.4f}",
    )
    alone = [look.alone / MIB for look in found.looks]
    table.add_row("all, each page once", f"{median(alone):.1f} MiB", f"{max(alone):.1f} MiB")
    return table


def _by_function(counts: Counts, seconds: float) -> Table:
    """Return what went to Convex."""
    table = Table("function", "seen", "an hour")
    for kind, seen in (("HTTP", counts.calls), ("subscription", counts.answers)):
        for function, count in sorted(seen.items()):
            table.add_row(f"{kind}: {function}", str(count), f"{count * HOUR / seconds:.0f}")
    table.add_row("sockets opened", str(counts.sockets), f"{counts.sockets * HOUR / seconds:.0f}")
    return table


def _judged(what: str, figure: float, limit: float, places: str) -> bool:
    """Print one line of the judgement; return whether the figure is within its limit."""
    within = figure <= limit
    verdict = "PASS" if within else "OVER"
    console.print(f"{verdict}  {what}: {figure:.{places}} of at most {limit:g}")
    return within


def _main_process(unit: str) -> int:
    """Return the main process of a systemd unit."""
    command = ("systemctl", "show", "--property=MainPID", "--value", "--", unit)
    said = subprocess.run(command, check=False, capture_output=True, text=True)
    if said.returncode or not int(said.stdout):
        raise SystemExit(f"{unit} does not run. {said.stderr.strip()}")
    return int(said.stdout)


if __name__ == "__main__":
    sys.exit(main())
