"""`./dev bench web`: how long a worker with two running jobs takes to answer over HTTP.

Each page is asked for over one connection that is kept, as a scraper does, and over a new one each
time, as curl does; /metrics in the words of a Prometheus. The jobs' model answers nothing, so they
run for as long as this lasts. A page that this worker does not have is left out. The exit status is
1 when the median of /metrics is over its limit.
"""

import argparse
import asyncio
import re
import secrets
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from statistics import median, quantiles

from rich.console import Console
from rich.table import Table

from devtools.backend import REPOSITORY, local_backend
from devtools.stack import Keys, WorkerProcess, operator, worker, worker_environment
from tests.fakes.messages_api import Stall, say, scripted_api
from tests.processes import until
from tests.repositories import repository

HOME = REPOSITORY / ".demo"
JOBS = 2
PAGES = ["/metrics", "/health", "/"]
JUDGED = "/metrics"
MOST = 10.0  # ms, the median of that page
START_LIMIT = 60.0  # seconds until both jobs run
ANSWER_LIMIT = 10.0  # seconds
_HEALTH = re.compile(r"health: http://([\d.]+):(\d+)")
_NO_SUCH_PAGE = 404
_PROMETHEUS = {
    "Accept": "application/openmetrics-text;version=1.0.0;q=0.9,text/plain;version=0.0.4;q=0.5",
    "Accept-Encoding": "gzip",
}

console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What asking for one page in one way came to."""

    page: str
    way: str
    times: list[float]  # ms, one for each request
    size: int  # bytes of the largest answer's body
    statuses: set[int]

    @property
    def middle(self) -> float:
        """The median, in ms."""
        return median(self.times)


def main() -> int:
    """Do what the arguments say; print what was found."""
    parser = argparse.ArgumentParser(prog="./dev bench web", description=__doc__)
    parser.add_argument("pages", nargs="*", default=PAGES, help=f"default: {' '.join(PAGES)}")
    parser.add_argument("--requests", type=int, default=300, help="for each page in each way")
    arguments = parser.parse_args()
    home = HOME / f"web-{secrets.token_hex(4)}"
    try:
        findings = asyncio.run(measured(home, arguments.pages, arguments.requests))
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return 0 if report(findings) else 1


async def measured(home: Path, pages: list[str], requests: int) -> list[Findings]:
    """Measure each of *pages* at a worker that lives in *home*."""
    async with busy_worker(home) as (host, port):
        console.print(f"{JOBS} jobs run; {requests} requests for each page in each way")
        return await asyncio.to_thread(_in_each_way, host, port, pages, requests)


@asynccontextmanager
async def busy_worker(home: Path) -> AsyncIterator[tuple[str, int]]:
    """Run a worker whose slots are all busy; give where it answers."""
    keys = Keys.new()
    script = say("never", Stall(at="headers", times=None))
    async with (
        local_backend(home / "convex", environ=keys.deployment) as backend,
        scripted_api(script) as api,
        operator(backend.url, keys) as queue,
    ):
        environment = worker_environment(backend.url, keys, home, api=api.url)
        environment["MAX_CONCURRENT_JOBS"] = str(JOBS)
        source = repository(home / "repository")
        for number in range(JOBS):
            await queue.enqueue(prompt=f"job {number}", cloneUrl=source.url)
        async with worker(environment, home / "log") as process:
            prompts = [f"job {number}" for number in range(JOBS)]
            await until(lambda: all(map(api.asked, prompts)), limit=START_LIMIT, what="for jobs")
            yield _address(process)


def _address(process: WorkerProcess) -> tuple[str, int]:
    """Return where a worker says that it answers."""
    if found := _HEALTH.search(process.messages()):
        return found[1], int(found[2])
    raise RuntimeError(f"the worker does not answer over HTTP:\n{process.messages()}")


def _in_each_way(host: str, port: int, pages: list[str], requests: int) -> list[Findings]:
    """Ask for each page that is there."""
    found = []
    for page in pages:
        connection = HTTPConnection(host, port, ANSWER_LIMIT)
        if _ask(connection, page)[0] == _NO_SUCH_PAGE:
            console.print(f"SKIP  {page}: this worker has no such page")
            continue
        found.append(_over(connection, page, requests, keep=True))
        found.append(_over(connection, page, requests, keep=False))
        connection.close()
    return found


def _over(connection: HTTPConnection, page: str, requests: int, *, keep: bool) -> Findings:
    """Ask so often, over a connection that is kept or made anew each time."""
    times, sizes, statuses = [], set(), set()
    for _ in range(requests):
        if not keep:
            connection.close()  # the next request opens it
        began = time.perf_counter()
        status, size = _ask(connection, page)
        times.append((time.perf_counter() - began) * 1000)
        sizes.add(size)
        statuses.add(status)
    way = "one connection" if keep else "new connections"
    return Findings(page=page, way=way, times=times, size=max(sizes), statuses=statuses)


def _ask(connection: HTTPConnection, page: str) -> tuple[int, int]:
    """Ask, and return status and size of the answer."""
    connection.request("GET", page, headers=_PROMETHEUS if page == JUDGED else {})
    answer = connection.getresponse()
    return answer.status, len(answer.read())


def report(found: list[Findings]) -> bool:
    """Print what was found; return whether it is within the limit."""
    table = Table("page", "over", "status", "median", "p95", "slowest", "bytes")
    for one in found:
        table.add_row(
            one.page,
            one.way,
            ", ".join(map(str, sorted(one.statuses))),
            f"{one.middle:.2f} ms",
            f"{quantiles(one.times, n=20, method='inclusive')[-1]:.2f} ms",
            f"{max(one.times):.2f} ms",
            str(one.size),
        )
    console.print(table)
    judged = [one.middle for one in found if one.page == JUDGED]
    if not judged:
        return True
    verdict = "PASS" if max(judged) <= MOST else "OVER"
    console.print(f"{verdict}  {JUDGED}, median in ms: {max(judged):.2f} of at most {MOST:g}")
    return verdict == "PASS"


if __name__ == "__main__":
    sys.exit(main())
