"""`./dev bench chaos`: jobs, while workers are killed and the backend is restarted at random.

Workers are killed with SIGKILL and started again where they were, as systemd would; the backend is
killed and started on its data. At the end it is counted, from what the scripted Messages API served
and from the rows, what was lost, doubled, left behind and run again for nothing. The exit status
is 0 only when nothing was.
"""

import argparse
import asyncio
import json
import random
import secrets
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console

from devtools.backend import REPOSITORY, Backend, local_backend
from devtools.stack import (
    Keys,
    Operator,
    WorkerProcess,
    operator,
    worker,
    worker_environment,
)
from fondation_worker.errors import ConvexError
from tests.fakes.messages_api import Rule, Script, ScriptedApi, Turn, scripted_api
from tests.processes import running
from tests.repositories import repository

HOME = REPOSITORY / ".demo"
ENDED = {"completed", "dead", "canceled"}
LOOK = 0.5  # seconds between two looks at the jobs
MOST_ATTEMPTS = 20  # what `jobs:enqueue` takes at most: a killed run spends one
BIG = 100_000  # characters; more than one row takes, so that this document becomes a file
ON_DISK = "the result is on disk"  # what a worker logs once its result outlives it
BEGUN = "control: "  # what it logs when it has cleared what earlier lives left
RESTART_WAIT = 0.1  # seconds before a worker that ended is started again
CLEAN_UP = 90.0  # seconds that what is scheduled may take after the last job
SETTINGS = {
    "LOG_FORMAT": "json",
    "POLL_INTERVAL": "1s",
    "LEASE_TIME": "15s",
    "HEARTBEAT_INTERVAL": "3s",
    "DRAIN_TIME": "20s",
    "DISK_FLOOR": "0",
    "MEMORY_PRESSURE_LIMIT": "100",
}

console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What happens, and how often. Times are seconds; 0 is never."""

    jobs: int
    workers: int
    slots: int
    kill_every: float
    restart_every: float
    limit: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What it came to."""

    seconds: float
    kills: int
    restarts: int
    statuses: Counter[str]
    outcomes: Counter[str]  # of attempts
    begun: int  # runs, as the model's service saw them
    finished: int  # runs whose last answer the service gave whole
    lost: list[str]  # jobs that did not complete
    doubled: list[str]  # jobs with another number of documents than one
    needless: list[str]  # jobs that ran again although a result was on a disk
    leftovers: list[str]  # processes, files and rows that nobody needs

    @property
    def good(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.doubled or self.needless or self.leftovers)


class Place:
    """Where one worker lives, whichever process it is at the moment."""

    def __init__(self, home: Path, environment: dict[str, str]) -> None:
        self.home = home
        self.kills = 0
        self._environment = environment
        self._process: WorkerProcess | None = None
        home.mkdir(parents=True)

    async def live(self) -> None:
        """Keep a worker here, for ever: what ends is started again."""
        while True:
            async with worker(self._environment, self.home / "log") as self._process:
                while self._process.exit_status is None:
                    await asyncio.sleep(RESTART_WAIT)

    async def live_once_more(self) -> None:
        """Start a worker, to clear what the last kill has left, and stop it."""
        starts = len(self.said(BEGUN))
        async with worker(self._environment, self.home / "log"):
            while len(self.said(BEGUN)) == starts:
                await asyncio.sleep(RESTART_WAIT)

    def kill(self) -> None:
        """SIGKILL the worker, in the middle of whatever it does."""
        if self._process is not None and self._process.exit_status is None:
            self._process.signal(signal.SIGKILL)
            self.kills += 1

    def said(self, words: str) -> list[dict[str, Any]]:
        """Return the log lines that contain *words*."""
        found = []
        for line in (self.home / "log").read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):  # the last line of a killed worker may be torn
                found.append(json.loads(line))
        return [line for line in found if words in line.get("message", "")]


def main() -> int:
    """Do what the arguments say; print what was found."""
    parser = argparse.ArgumentParser(prog="./dev bench chaos", description=__doc__)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--kill-every", type=float, default=3, help="seconds; 0 for never")
    parser.add_argument("--restart-every", type=float, default=20, help="seconds; 0 for never")
    parser.add_argument("--limit", type=float, default=1800, help="seconds for all jobs")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--keep", action="store_true", help="keep logs and data")
    arguments = vars(parser.parse_args())
    keep = arguments.pop("keep")
    home = HOME / f"chaos-{secrets.token_hex(4)}"
    console.print(f"seed {arguments['seed']}; everything is below {home.relative_to(REPOSITORY)}")
    try:
        findings = asyncio.run(chaos(Plan(**arguments), home))
    except KeyboardInterrupt:
        return 130
    report(findings)
    if findings.good and not keep:
        shutil.rmtree(home)
    return 0 if findings.good else 1


async def chaos(plan: Plan, home: Path) -> Findings:
    """Let it happen below *home*; return what it came to."""
    keys = Keys.new()
    environ = keys.deployment | {"FONDATION_MIN_LEASE_MS": "1000"}
    async with (
        local_backend(home / "convex", faults=True, environ=environ) as backend,
        scripted_api(list(rules(plan))) as api,
        operator(backend.url, keys) as queue,
    ):
        source = repository(home / "repository")
        jobs = {}
        for number in range(plan.jobs):
            job_id = await queue.enqueue(
                prompt=prompt(number), cloneUrl=source.url, maxAttempts=MOST_ATTEMPTS
            )
            jobs[job_id] = prompt(number)
        settings = SETTINGS | {"MAX_CONCURRENT_JOBS": str(plan.slots)}
        places = [home / f"worker-{number + 1}" for number in range(plan.workers)]
        fleet = [
            Place(at, worker_environment(backend.url, keys, at, api=api.url) | settings)
            for at in places
        ]
        started = time.monotonic()
        restarts = await while_jobs_run(plan, fleet, backend, queue, jobs)
        seconds = time.monotonic() - started
        await nothing_scheduled(backend)
        return await examine(backend, api, queue, fleet, jobs, seconds=seconds, restarts=restarts)


async def while_jobs_run(
    plan: Plan, fleet: list[Place], backend: Backend, queue: Operator, jobs: Collection[str]
) -> int:
    """Let the fleet work and things happen to it until every job has ended; return the restarts."""
    restarts = 0

    async def kill_workers() -> None:
        dice = random.Random(plan.seed)  # noqa: S311 a plan that can be repeated, not a secret
        while plan.kill_every:
            await asyncio.sleep(plan.kill_every * dice.uniform(0.5, 1.5))
            dice.choice(fleet).kill()

    async def restart_backend() -> None:
        nonlocal restarts
        while plan.restart_every:
            await asyncio.sleep(plan.restart_every)
            await backend.kill()
            await backend.restart()
            restarts += 1

    async with asyncio.timeout(plan.limit), asyncio.TaskGroup() as group:
        living = [group.create_task(place.live()) for place in fleet]
        trouble = [group.create_task(kill_workers()), group.create_task(restart_backend())]
        await all_ended(queue, jobs)
        for task in [*trouble, *living]:
            task.cancel()
    await backend.restart()  # it may have been cancelled between the end and the new start
    async with asyncio.timeout(plan.limit):
        await asyncio.gather(*(place.live_once_more() for place in fleet))
    return restarts


async def all_ended(queue: Operator, jobs: Collection[str]) -> None:
    """Wait until every job has ended, saying how many have."""
    told, left = 0, set(jobs)
    while left:
        with suppress(ConvexError):  # the backend is being restarted
            left -= {job for job in left if (await queue.job(job))["status"] in ENDED}
        ended = len(jobs) - len(left)
        if ended >= told + 10:
            told = ended
            console.print(f"  {ended} of {len(jobs)} jobs have ended")
        await asyncio.sleep(LOOK)


async def nothing_scheduled(backend: Backend) -> None:
    """Wait until what `complete` scheduled has run: no staged row is left."""
    deadline = time.monotonic() + CLEAN_UP
    while await rows(backend, "stagedDocs") and time.monotonic() < deadline:
        await asyncio.sleep(LOOK)


async def examine(
    backend: Backend,
    api: ScriptedApi,
    queue: Operator,
    fleet: list[Place],
    jobs: dict[str, str],
    *,
    seconds: float,
    restarts: int,
) -> Findings:
    """Count what was lost, doubled, run again for nothing and left behind."""
    ended = {job_id: await queue.job(job_id) for job_id in jobs}
    documents = Counter(str(row["jobId"]) for row in await rows(backend, "docs"))
    attempts = await rows(backend, "attempts")
    on_disk = Counter(line["jobId"] for place in fleet for line in place.said(ON_DISK))
    return Findings(
        seconds=seconds,
        kills=sum(place.kills for place in fleet),
        restarts=restarts,
        statuses=Counter(job["status"] for job in ended.values()),
        outcomes=Counter(str(row.get("outcome", "open")) for row in attempts),
        begun=sum(1 for request in api.asked() if request.turn == 0),
        finished=len(api.served),
        lost=[job_id for job_id, job in ended.items() if job["status"] != "completed"],
        doubled=[job_id for job_id in jobs if documents[job_id] != 1],
        needless=[job_id for job_id in jobs if on_disk[job_id] > 1],
        leftovers=[*await left_in_rows(backend), *left_on_this_host(fleet)],
    )


async def left_in_rows(backend: Backend) -> list[str]:
    """Return the rows that should be gone."""
    staged = await rows(backend, "stagedDocs")
    jobs = await rows(backend, "jobs")
    leased = [row for row in jobs if row.get("expiresAt") is not None]
    return [f"{len(staged)} staged rows"] * bool(staged) + [
        f"job {row['_id']} has a lease" for row in leased
    ]


def left_on_this_host(fleet: list[Place]) -> Iterator[str]:
    """Yield the processes and files that should be gone."""
    for place in fleet:
        for directory in (place.home / "work", place.home / "state" / "lives"):
            yield from (str(entry) for entry in directory.glob("*"))
        refused = list((place.home / "state" / "refused").glob("*"))
        yield from (f"refused: {entry}" for entry in refused)
        yield from (f"process {pid}" for pid in running(str(place.home)))


async def rows(backend: Backend, table: str) -> list[dict[str, Any]]:
    """Return the rows of a table as they are."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{backend.url}/_rows", params={"table": table}) as answer,
    ):
        found: list[dict[str, Any]] = (await answer.json())["rows"]
        return found


def prompt(number: int) -> str:
    """Return the prompt of a job, which no other job has."""
    return f"Analyse, as job {number:04d} of many."


def rules(plan: Plan) -> Iterator[Rule]:
    """Yield what the model says to each job: after 1 to 4 s, and to every tenth something large."""
    dice = random.Random(plan.seed)  # noqa: S311 as above
    for number in range(plan.jobs):
        text = f"# Job {number:04d}\n\nDone.\n" + ("word " * (BIG // 5) if number % 10 == 0 else "")
        turn = Turn(text=text, delay=dice.uniform(1, 4))
        yield Rule(prompt=prompt(number), script=Script(turns=(turn,)))


def report(findings: Findings) -> None:
    """Print what was found."""
    console.print(
        f"{findings.seconds:.0f} s, {findings.kills} workers killed, backend killed"
        f" {findings.restarts} times"
    )
    console.print(f"jobs: {_in_words(findings.statuses)}; attempts: {_in_words(findings.outcomes)}")
    again = findings.finished - findings.statuses["completed"]
    console.print(
        f"runs: {findings.begun} began, {findings.finished} were served to their end,"
        f" {again} of these again"
    )
    for what in ("lost", "doubled", "needless", "leftovers"):
        found: list[str] = getattr(findings, what)
        console.print(f"{what}: {len(found)}", *found[:20], sep="\n  ")


def _in_words(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


if __name__ == "__main__":
    sys.exit(main())
