"""What a worker in a machine talks to: Convex, the model, and repositories, all on its loopback."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from devtools.backend import Backend, local_backend
from devtools.stack import Keys, Operator, operator
from tests.fakes.messages_api import (
    Call,
    Explore,
    Rule,
    Script,
    ScriptedApi,
    Turn,
    scripted_api,
    when,
)
from tests.repositories import GitServer, Repository, git_server, repository

ENDED = ("completed", "dead", "canceled")
IN_FLIGHT = {"claimed", "cloning", "analyzing", "gathering"}
LOOK = 0.05  # seconds between two looks at a row
MOST_STEPS = 600  # of a held run, one a second


@dataclass(slots=True, kw_only=True)
class Outside:
    """The parts, and what an application does with them."""

    keys: Keys
    next_key: str = field(repr=False)  # the deployment takes it as well: workers can be rotated
    backend: Backend
    queue: Operator
    api: ScriptedApi
    git: GitServer
    repository: Repository
    host: str = "localhost"  # by this name workers reach the repositories
    _rules: list[Rule] = field(default_factory=list)

    async def enqueue(self, prompt: str, script: Script | Explore | None = None, **job: Any) -> str:
        """Put a job in whose prompt no other has; *script* is what the model answers to it."""
        self._rules.append(when(prompt, script or Script(turns=(Turn(text=f"# {prompt}\n"),))))
        self.api.rules = self._rules
        url = f"https://{self.host}/{self.repository.path.name}/.git"  # a port is not taken
        return await self.queue.enqueue(prompt=prompt, **{"cloneUrl": url} | job)

    async def enqueue_held(self, prompt: str) -> str:
        """Put a job in whose run goes on, step after step, until `release` ends it."""
        step = Turn(calls=(Call(tool="Glob", input={"pattern": "*"}),), delay=1)
        return await self.enqueue(prompt, Script(turns=(step,) * MOST_STEPS))

    def release(self, prompt: str) -> None:
        """Let a run that is held come to its result."""
        (number,) = (n for n, rule in enumerate(self._rules) if rule.prompt == prompt)
        end = Turn(text=f"# {prompt}\n")
        self._rules[number] = when(prompt, Script(turns=(end,) * (MOST_STEPS + 1)))

    async def job_in(self, job_id: str, *statuses: str, limit: float = 30) -> dict[str, Any]:
        """Return the job's row once its status is one of *statuses*."""
        deadline = time.monotonic() + limit
        while True:
            row = await self.queue.job(job_id)
            if row["status"] in statuses:
                return row
            assert time.monotonic() < deadline, f"waited {limit} s for {statuses}: {row}"
            await asyncio.sleep(LOOK)

    async def ended(self, job_id: str, *, limit: float = 60) -> dict[str, Any]:
        """Return the job's row once it has ended."""
        return await self.job_in(job_id, *ENDED, limit=limit)

    async def completed(self, job_id: str, *, limit: float = 60) -> dict[str, Any]:
        """Return the job's row once it is completed; AssertionError when it ends otherwise."""
        row = await self.ended(job_id, limit=limit)
        assert row["status"] == "completed", row
        return row

    async def asked(self, prompt: str, *, limit: float = 30) -> None:
        """Wait until a run with this prompt has asked the model: then the CLI is at work."""
        deadline = time.monotonic() + limit
        while not self.runs(prompt):
            assert time.monotonic() < deadline, f"waited {limit} s for a run of {prompt!r}"
            await asyncio.sleep(LOOK)

    def runs(self, prompt: str) -> int:
        """How many runs of the CLI began for this prompt, by what the model was asked."""
        return sum(1 for request in self.api.asked(prompt) if request.turn == 0)

    async def make_due(self, job_id: str) -> None:
        """Let a job that waits for its next attempt begin it at once."""
        await self.job_in(job_id, "pending")
        async with (
            aiohttp.ClientSession() as session,
            session.patch(
                f"{self.backend.url}/_rows",
                json={"table": "jobs", "id": job_id, "fields": {"runAt": 0}},
            ) as answer,
        ):
            assert answer.status == 200, await answer.text()

    async def in_flight(self) -> list[dict[str, Any]]:
        """Return the jobs that a worker has."""
        return [job for job in await self.queue.jobs(limit=100) if job["status"] in IN_FLIGHT]


def digest(key: str) -> str:
    """Return what a deployment knows of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def slowly(text: str, seconds: float) -> Script:
    """Return the script that says *text* after so long."""
    return Script(turns=(Turn(text=text, delay=seconds),))


@asynccontextmanager
async def outside(home: Path, host: str = "localhost", *, port: int = 0) -> AsyncIterator[Outside]:
    """Start the parts, with their data below *home*; stop them at the end.

    Workers reach the repositories by the name of a *host*; by another than localhost also Convex,
    at that *port*.
    """
    keys, next_keys = Keys.new(), Keys.new()
    both = f"{digest(keys.worker)},{digest(next_keys.worker)}"
    environ = keys.deployment | {
        "FONDATION_MIN_LEASE_MS": "1000",
        "FONDATION_WORKER_KEY_SHA256": both,
    }
    made = repository(home / "repositories" / "project")
    url = None if host == "localhost" else f"http://{host}:{port}"
    async with (
        local_backend(home / "convex", faults=True, environ=environ, port=port, url=url) as backend,
        scripted_api([]) as api,
        operator(backend.url, keys) as queue,
        git_server(home / "repositories", home / "keys", port=443, host=host) as git,
    ):
        yield Outside(
            keys=keys,
            next_key=next_keys.worker,
            backend=backend,
            queue=queue,
            api=api,
            git=git,
            repository=made,
            host=host,
        )
