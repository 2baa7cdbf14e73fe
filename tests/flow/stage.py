"""Everything around a worker, for flows: backend, scripted model, workers, the clean-up check.

A flow drives the installed program as a child process. How often something ran is counted from
what the scripted Messages API served: a row could be wrong in the same way as the code.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from devtools.backend import Backend, local_backend
from devtools.stack import Keys, Operator, WorkerProcess, operator, worker, worker_environment
from tests.fakes.messages_api import Rule, Script, ScriptedApi, scripted_api
from tests.processes import running, until
from tests.repositories import Repository, repository

ENDED = {"completed", "dead", "canceled"}
IN_FLIGHT = {"claimed", "cloning", "analyzing", "gathering"}
LOOK = 0.05  # seconds between two looks at a row

ANY_HOST = {"DISK_FLOOR": "0", "MEMORY_PRESSURE_LIMIT": "100"}  # this one may be busy or full
SHORT_LEASE = {"LEASE_TIME": "3s", "HEARTBEAT_INTERVAL": "1s"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a worker answered over HTTP."""

    status: int
    kind: str  # Content-Type
    text: str


@dataclass(slots=True, kw_only=True)
class Stage:
    """What a flow has to play with."""

    home: Path
    keys: Keys
    backend: Backend
    api: ScriptedApi
    queue: Operator
    repository: Repository
    exits: AsyncExitStack = field(repr=False)
    workers: list[WorkerProcess] = field(default_factory=list)

    async def worker(self, program: tuple[str, ...] = (), /, **settings: str) -> WorkerProcess:
        """Start a worker; it is stopped at the end, if it still runs then."""
        home = self.home / f"worker-{len(self.workers) + 1}"
        home.mkdir(exist_ok=True)
        environment = worker_environment(self.backend.url, self.keys, home, api=self.api.url)
        environment |= {"LOG_FORMAT": "json", "POLL_INTERVAL": "1s", **ANY_HOST, **settings}
        started = worker(environment, home / "log", program=program)
        self.workers.append(await self.exits.enter_async_context(started))
        return self.workers[-1]

    async def enqueue(self, prompt: str = "look", **job: Any) -> str:
        """Put a job in, for this stage's repository unless another is named."""
        return await self.queue.enqueue(prompt=prompt, **{"cloneUrl": self.repository.url} | job)

    async def job_in(self, job_id: str, *statuses: str, limit: float = 30) -> dict[str, Any]:
        """Return the job's row once its status is one of *statuses*."""
        deadline = time.monotonic() + limit
        while True:
            row = await self.queue.job(job_id)
            if row["status"] in statuses:
                return row
            assert time.monotonic() < deadline, f"waited {limit} s for {statuses}: {row}"
            await asyncio.sleep(LOOK)

    async def ended(self, job_id: str, *, limit: float = 45) -> dict[str, Any]:
        """Return the job's row once it has ended."""
        return await self.job_in(job_id, *ENDED, limit=limit)

    def runs(self, prompt: str = "") -> int:
        """How many runs of the CLI began for prompts that contain this."""
        return sum(1 for request in self.api.asked(prompt) if request.turn == 0)

    async def fault(self, **rule: Any) -> None:
        """Let calls to the backend go wrong."""
        await self._post("_faults", [rule])

    async def mend(self) -> None:
        """Let no call go wrong any more."""
        async with (
            aiohttp.ClientSession() as session,
            session.delete(f"{self.backend.url}/_faults") as answer,
        ):
            assert answer.status == 200, await answer.text()

    async def move_clock(self, seconds: float) -> None:
        """Move the deployment's clock ahead; what becomes due on the way runs."""
        await self._post("_clock", {"advanceMs": seconds * 1000})

    async def jump_clock(self, seconds: float) -> None:
        """Move the deployment's clock at once, as on a host that slept."""
        await self._post("_clock", {"advanceMs": seconds * 1000, "jump": True})

    async def now(self) -> float:
        """Return the deployment's clock, in milliseconds since the epoch."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.backend.url}/_clock") as answer,
        ):
            return float((await answer.json())["now"])

    async def _post(self, path: str, body: Any) -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.backend.url}/{path}", json=body) as answer,
        ):
            assert answer.status == 200, await answer.text()

    async def drop_sockets(self) -> None:
        """Cut every open subscription, as a network would."""
        await self._post("_disconnect", {})

    async def health(self, worker: WorkerProcess) -> dict[str, Any]:
        """Return what the worker's /health answers."""
        document: dict[str, Any] = json.loads((await self.page(worker, "/health")).text)
        return document

    async def page(
        self, worker: WorkerProcess, path: str, *, accept: str = "*/*", method: str = "GET"
    ) -> Page:
        """Return what the worker answers over HTTP."""
        (line,) = (line for line in worker.lines() if line["message"].startswith("health: "))
        address = line["message"].removeprefix("health: ").removesuffix("/health")
        headers = {"Accept": accept}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, address + path, headers=headers) as answer,
        ):
            kind = answer.headers.get("Content-Type", "")
            return Page(status=answer.status, kind=kind, text=await answer.text())

    async def becomes(
        self, worker: WorkerProcess, status: str, words: str = "", *, limit: float = 20
    ) -> Page:
        """Return what /health answers once *status* and *words* stand in it."""
        deadline = time.monotonic() + limit
        while True:
            page = await self.page(worker, "/health")
            health = json.loads(page.text)
            if health["status"] == status and words in " ".join(health["reasons"]):
                return page
            assert time.monotonic() < deadline, f"waited {limit} s for {status} {words}: {health}"
            await asyncio.sleep(LOOK)

    async def push_is_up(self, worker: WorkerProcess) -> None:
        """Wait until the worker listens and the pulse has come: without, it would poll."""
        deadline = time.monotonic() + 20
        await until(lambda: any("health: " in line["message"] for line in worker.lines()))
        await self.move_clock(61)
        while (await self.health(worker))["convex"]["wakeUp"] != "push":
            assert time.monotonic() < deadline, "push did not come up"
            await asyncio.sleep(LOOK)

    async def change_row(self, table: str, row_id: str, fields: dict[str, Any]) -> None:
        """Change a row as an application's own function would."""
        async with (
            aiohttp.ClientSession() as session,
            session.patch(
                f"{self.backend.url}/_rows", json={"table": table, "id": row_id, "fields": fields}
            ) as answer,
        ):
            assert answer.status == 200, await answer.text()

    async def add_row(self, table: str, fields: Mapping[str, Any]) -> str:
        """Put a row in as an application would; return its id."""
        known = {row["_id"] for row in await self.rows(table)}
        await self._post("_rows", {"table": table, "rows": [fields]})
        (row,) = (row for row in await self.rows(table) if row["_id"] not in known)
        return str(row["_id"])

    async def rows(self, table: str) -> list[dict[str, Any]]:
        """Return the rows of a table as they are."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.backend.url}/_rows", params={"table": table}) as answer,
        ):
            assert answer.status == 200, await answer.text()
            rows: list[dict[str, Any]] = (await answer.json())["rows"]
            return rows


@asynccontextmanager
async def on_stage(
    home: Path,
    script: Script | Sequence[Rule] | Any,
    *,
    directories_left: bool = False,
    traceback: bool = False,
    deployment: Mapping[str, str] | None = None,
) -> AsyncIterator[Stage]:
    """Set the stage below *home*; at the end stop everything, and check that nothing is left.

    A flow that kills a worker leaves its directory, one that provokes a fault of our own leaves a
    traceback: such a flow says so. *deployment* holds more variables of the deployment.
    """
    keys = Keys.new()
    environ = keys.deployment | {"FONDATION_MIN_LEASE_MS": "1000"} | dict(deployment or {})
    async with (
        local_backend(home / "convex", faults=True, environ=environ) as backend,
        scripted_api(script) as api,
        operator(backend.url, keys) as queue,
    ):
        async with AsyncExitStack() as exits:
            stage = Stage(
                home=home,
                keys=keys,
                backend=backend,
                api=api,
                queue=queue,
                repository=repository(home / "repository"),
                exits=exits,
            )
            yield stage
        jobs = await queue.jobs(limit=100)
        assert [job for job in jobs if job["status"] in IN_FLIGHT] == []
        for started in stage.workers:
            check(started, stage.keys)
            assert traceback or "Traceback" not in started.messages(), started.messages()
            assert directories_left or not left_behind(started)
    assert running(str(home)) == []


def check(ended: WorkerProcess, keys: Keys) -> None:
    """Check that a worker has ended, and that its key is not in its log."""
    assert ended.exit_status is not None
    assert keys.worker not in ended.messages()


def left_behind(ended: WorkerProcess) -> list[Path]:
    """Return what an ended worker has left of its jobs."""
    work = ended.log.parent / "work"
    return list(work.iterdir()) if work.exists() else []
