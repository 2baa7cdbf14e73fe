"""The parts around a worker, and a worker, started and stopped: for demo, by hand, and tests."""

import asyncio
import hashlib
import json
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fondation_worker.convex import Convex, connect

PROGRAM = Path(sys.executable).parent / "fondation-worker"
CLAUDE = Path(sys.executable).parent / "claude"
PLACEHOLDER = "placeholder-credential"  # what the scripted Messages API is shown
STOP_LIMIT = 45.0  # seconds that a worker may take to end after SIGTERM

# How to find programs and whom to trust is the host's; a worker needs nothing else of it.
PASSED_ON = ("PATH", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The keys of one deployment."""

    worker: str = field(repr=False)
    operator: str = field(repr=False)

    @classmethod
    def new(cls) -> "Keys":
        """Make a pair."""
        return cls(worker=secrets.token_urlsafe(24), operator=secrets.token_urlsafe(24))

    @property
    def deployment(self) -> dict[str, str]:
        """The environment variables of a deployment that knows these keys, and only these."""
        return {
            "FONDATION_WORKER_KEY_SHA256": hashlib.sha256(self.worker.encode()).hexdigest(),
            "FONDATION_OPERATOR_KEY_SHA256": hashlib.sha256(self.operator.encode()).hexdigest(),
        }


class Operator:
    """What an application does with the queue: put jobs in, look at them, read what came out."""

    def __init__(self, convex: Convex, key: str) -> None:
        self._convex = convex
        self._key = key

    async def enqueue(self, **job: Any) -> str:
        """Put a job in; return its id."""
        arguments = {"operatorKey": self._key, **job}
        return str((await self._convex.mutation("jobs:enqueue", arguments))["jobId"])

    async def job(self, job_id: str) -> dict[str, Any]:
        """Return the job's row."""
        arguments = {"operatorKey": self._key, "jobId": job_id}
        row: dict[str, Any] = await self._convex.query("jobs:get", arguments)
        return row

    async def jobs(self, **arguments: Any) -> list[dict[str, Any]]:
        """Return the newest jobs."""
        rows: list[dict[str, Any]] = await self._convex.query(
            "jobs:list", {"operatorKey": self._key, **arguments}
        )
        return rows

    async def documents(self, job_id: str) -> list[dict[str, Any]]:
        """Return the job's documents, in order."""
        arguments = {"operatorKey": self._key, "jobId": job_id}
        answer = await self._convex.query("docs:list", arguments)
        rows: list[dict[str, Any]] = answer["docs"]
        return rows

    async def cancel(self, job_id: str) -> dict[str, Any]:
        """Cancel a job; return what Convex answers."""
        return await self._mutation("jobs:cancel", jobId=job_id)

    async def retry(self, job_id: str) -> dict[str, Any]:
        """Let a job run again; return what Convex answers."""
        return await self._mutation("jobs:retry", jobId=job_id)

    async def logs(self, job_id: str, **arguments: Any) -> list[dict[str, Any]]:
        """Return lines of the job's log, in order."""
        arguments = {"operatorKey": self._key, "jobId": job_id, **arguments}
        lines: list[dict[str, Any]] = (await self._convex.query("jobs:logs", arguments))["lines"]
        return lines

    async def workers(self) -> list[dict[str, Any]]:
        """Return the workers that reported."""
        answer = await self._convex.query("workers:list", {"operatorKey": self._key})
        workers: list[dict[str, Any]] = answer["workers"]
        return workers

    async def _mutation(self, path: str, **arguments: Any) -> dict[str, Any]:
        answer: dict[str, Any] = await self._convex.mutation(
            path, {"operatorKey": self._key, **arguments}
        )
        return answer


@asynccontextmanager
async def operator(url: str, keys: Keys) -> AsyncIterator[Operator]:
    """Give an operator's side of the deployment at *url*."""
    async with connect(url, "") as convex:
        yield Operator(convex, keys.operator)


def worker_environment(
    url: str,
    keys: Keys,
    home: Path,
    *,
    api: str | None,
    credential: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the environment of a worker that lives in *home* and asks the model at *api*."""
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    settings = {
        "HOME": str(home),
        "CONVEX_URL": url,
        "WORKER_KEY": keys.worker,
        "CLAUDE_CLI": str(CLAUDE),
        "STATE_DIR": str(home / "state"),
        "TEMP_DIR": str(home / "work"),
        "HEALTH_ADDRESS": "127.0.0.1:0",
        "ALLOW_LOCAL_REPOSITORIES": "1",
        "DRAIN_TIME": "0",
        "DISK_FLOOR": "64MiB",  # a laptop may have less free than a worker wants
    }
    if api:
        settings["ANTHROPIC_BASE_URL"] = api
    return passed | settings | dict(credential or {"ANTHROPIC_API_KEY": PLACEHOLDER})


class WorkerProcess:
    """The installed program, running."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self.log = log

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """Its exit status, once it has ended."""
        return self._process.returncode

    def lines(self) -> list[dict[str, Any]]:
        """Return what it has logged so far, when it logs JSON; other lines are left out."""
        found = []
        for line in self.log.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):
                found.append(json.loads(line))
        return found

    def messages(self) -> str:
        """Return all that it has logged so far."""
        return self.log.read_text(encoding="utf-8")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def ended(self) -> int:
        """Wait until it has ended; return its exit status."""
        async with asyncio.timeout(STOP_LIMIT):
            return await self._process.wait()

    async def stop(self) -> int:
        """Ask it to stop and wait until it has; kill it if it does not."""
        if self._process.returncode is None:
            self.signal(signal.SIGTERM)
        try:
            return await self.ended()
        finally:
            self.signal(signal.SIGKILL)


@asynccontextmanager
async def worker(
    environment: Mapping[str, str],
    log: Path,
    *,
    program: tuple[str, ...] = (),
    inherit: bool = False,
) -> AsyncIterator[WorkerProcess]:
    """Run `fondation-worker run`, or *program*, with *environment*; stop it at the end.

    Its log goes to the file *log*, or, to *inherit*, to our own standard error. It gets a session
    of its own: a Ctrl-C is for who started us.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as opened:
        file = None if inherit else opened
        process = await asyncio.create_subprocess_exec(
            *(program or (str(PROGRAM), "run")),
            env=dict(environment),
            cwd=log.parent,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    running = WorkerProcess(process, log)
    try:
        yield running
    finally:
        await running.stop()
