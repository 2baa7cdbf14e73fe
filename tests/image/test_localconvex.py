"""The local Convex backend in a container, and the workers of packaging/compose.yaml beside it.

The very lines of the compose file are run: the profile `local`, scaled to two workers.
"""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from devtools.image import built, built_localconvex
from devtools.stack import Keys
from devtools.storage import environment
from tests.fakes.messages_api import say, scripted_api
from tests.fleet.containers import UID
from tests.image.compose import Project
from tests.image.engine import Engine, engine
from tests.processes import until
from tests.repositories import repository

MODEL = "anthropic-api-key"  # the file of the credential
PATIENCE = 60.0  # seconds for a job; it takes three
LARGE = "# Large\n" + "A line of a document that is stored as a file.\n" * 3000


@dataclass(slots=True, kw_only=True)
class World:
    """The engine, and the compose project in it."""

    docker: Engine
    project: Project
    options: list[str]  # of every worker: what a laptop without a network has instead of it
    saved: Path  # where operators may write
    hosts: list[str] = field(default_factory=list)  # what Docker's name server knows
    operators: Iterator[int] = field(default_factory=lambda: count(1))

    async def up(self, name: str, number: int = 1) -> str:
        """Start a container of a service; return its name."""
        options = [*self.options, *self.hosts] if name == "worker" else []
        await self.docker(*self.project.words(name, number, "--detach", *options))
        return f"{name}-{number}"

    async def operate(self, *words: str) -> Any:
        """Do `docker compose run operator …`; return the document that it printed."""
        options = [*self.hosts, f"--volume={self.saved}:/saved"]
        said = self.project.words("operator", next(self.operators), *options, command=words)
        done = await self.docker(*said)
        return json.loads(done.out)

    async def local_deployment(self) -> None:
        """Start the deployment; workers and operators know it by its service's name."""
        convex = self.docker.container(await self.up("convex"))
        self.hosts.append(f"--add-host=convex:{convex.made.address}")
        await until(lambda: "localconvex ready" in self.says("convex-1"), limit=30)

    async def job(self, prompt: str) -> Any:
        """Put a job in, and return it once it has ended."""
        repository = ("--clone-url", "file:///repository")
        async with asyncio.timeout(PATIENCE):
            return await self.operate(
                *("jobs", "enqueue", *repository, "--prompt", prompt, "--wait", "--json")
            )

    def says(self, name: str) -> str:
        """Return the log of a container."""
        lines = self.docker.container(name).log.lines(None)
        return "".join(line.text for line in lines)


@asynccontextmanager
async def world(suite: str, home: Path) -> AsyncIterator[World]:
    """Give the project with its secrets and a scripted model, and a repository to mount."""
    images = {"convex": built_localconvex(suite), "worker": built(suite)}
    images["operator"] = images["worker"]
    keys, secrets = Keys.new(), home / "secrets"
    secrets.mkdir()
    files = {"worker-key": keys.worker, "operator-key": keys.operator, MODEL: "placeholder"}
    for name, text in files.items():
        (secrets / name).write_text(f"{text}\n", encoding="utf-8")
    made = repository(home / "repository")
    (saved := home / "saved").mkdir()
    for path in (saved, made.path, *made.path.rglob("*")):
        shutil.chown(path, UID, UID)
    environ = {"CONVEX_URL": "http://convex:3210", "MODEL_SECRET": MODEL}
    async with engine(environment()) as docker, scripted_api(say(LARGE)) as api:
        where = await docker.expose(int(api.url.rpartition(":")[2]))
        options = [
            f"--env=ANTHROPIC_BASE_URL=http://{where}",
            "--env=ALLOW_LOCAL_REPOSITORIES=1",
            f"--volume={made.path}:/repository:ro",
        ]
        yield World(
            docker=docker,
            project=Project(environ, images, secrets),
            options=options,
            saved=saved,
        )


async def test_scaled_workers_do_jobs_of_the_local_deployment(suite: str, tmp_path: Path) -> None:
    """From the queue to a document that was uploaded; each worker has a name of its own."""
    async with world(suite, tmp_path) as there:
        await there.local_deployment()
        health = await there.docker.container("convex-1").health()
        assert health is not None
        assert health.status == 0
        workers = [await there.up("worker", number) for number in (1, 2)]
        job = await there.job("look")
        assert job["status"] == "completed", job
        await there.operate("jobs", "docs", job["id"], "--to", "/saved", "--json")
        assert LARGE.strip() in "".join(file.read_text() for file in there.saved.rglob("*.md"))
        known = (await there.operate("workers", "--json"))["workers"]
        names = {there.docker.container(name).made.id[:12] for name in workers}
        assert {worker["workerId"] for worker in known} == names
        for name in (*workers, "convex-1"):
            await there.docker("stop", name)
            assert await there.docker.container(name).ended() == 0, there.says(name)


async def test_a_deployment_without_its_keys_says_which(suite: str, tmp_path: Path) -> None:
    """One that nobody could use would be no help."""
    async with world(suite, tmp_path) as there:
        for number, left_out in enumerate(("worker-key", "operator-key"), start=1):
            words = there.project.words("convex", number)
            kept = [word for word in words if f"/{left_out}," not in word]
            kept[kept.index("unless-stopped")] = "no"
            done = await there.docker(*kept, check=False)
            assert done.status == 78
            assert f"/run/secrets/{left_out} is missing" in done.err
