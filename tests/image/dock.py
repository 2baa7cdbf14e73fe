"""Workers in containers, and what is around them: Convex, the model, a repository, an engine."""

import asyncio
import json
import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from devtools.image import built
from devtools.stack import PLACEHOLDER
from tests.image.engine import Engine, engine
from tests.image.images import Build
from tests.logins import FILE, login
from tests.outside import ENDED, Outside, outside

IMAGE = "fondation-worker"  # what the documents call it
USER = 1001
HOST = "host.docker.internal"  # by this a container reaches what is around it
PORT = 3210  # of Convex there
LOOK = 0.05  # seconds
# The host may be small and busy; jobs come from a server with a certificate of its own.
ANY_HOST = {"DISK_FLOOR": "0", "MEMORY_PRESSURE_LIMIT": "100", "POLL_INTERVAL": "1s"}
HARDENED = (
    *("--read-only", "--tmpfs", "/tmp", "--cap-drop=ALL"),  # noqa: S108 a container's own
    *("--security-opt=no-new-privileges", "--memory=2g", "--pids-limit=512"),
)


@dataclass(slots=True, kw_only=True)
class Dock:
    """What a test has to play with."""

    docker: Engine
    outside: Outside
    srv: Path  # what is /srv of the engine's host
    convex: str  # as a container reaches it
    model: str

    def give(self, name: str, text: str, *, user: int = USER, mode: int = 0o400) -> str:
        """Write a file below /srv for a *user* in a container; return its path there."""
        file = self.srv / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        file.write_text(text, encoding="utf-8")
        os.chown(file, user, user)
        file.chmod(mode)
        return f"/srv/{name}"

    def directory(self, name: str, *, user: int = USER, mode: int = 0o700) -> str:
        """Make a directory below /srv that belongs to a *user*; return its path there."""
        place = self.srv / name
        place.mkdir(parents=True, exist_ok=True)
        os.chown(place, user, user)
        place.chmod(mode)
        return f"/srv/{name}"

    def log_in(self, name: str, *, good_for: float = 86400, user: int = USER) -> str:
        """Leave a login of the CLI in a directory below /srv; return its path there."""
        place = self.directory(name, user=user)
        self.give(f"{name}/{FILE}", login(good_for), user=user, mode=0o600)
        return place

    async def start(
        self,
        name: str,
        *options: str,
        key: bool = True,
        model: bool = True,
        image: str = IMAGE,
        **settings: str,
    ) -> str:
        """Run a worker in a container, with its *key* and one for the *model*; return its name."""
        secrets = []
        if key:
            path = self.give(f"{name}.key", self.outside.keys.worker, mode=0o444)
            secrets += ["-v", f"{path}:/run/secrets/worker-key:ro"]
        if model:
            path = self.give(f"{name}.model", PLACEHOLDER, mode=0o444)
            secrets += ["-v", f"{path}:/run/secrets/anthropic-api-key:ro"]
        await self.docker(
            *("run", "-d", "--name", name, *secrets, *self.around(**settings), *options, image)
        )
        return name

    def around(self, **settings: str) -> list[str]:
        """Return the options that lead a worker to what is around it here."""
        certificate = self.give("git.pem", self.outside.git.certificate.read_text(), mode=0o444)
        set_to = {
            "CONVEX_URL": self.convex,
            "ANTHROPIC_BASE_URL": self.model,
            "GIT_SSL_CAINFO": "/run/git.pem",
            **ANY_HOST,
            **settings,
        }
        return [
            *("--add-host", f"{HOST}:host-gateway", "-v", f"{certificate}:/run/git.pem:ro"),
            *(f"--env={name}={value}" for name, value in set_to.items()),
        ]

    def said(self, name: str) -> list[dict[str, Any]]:
        """Return the lines that a worker has logged, which all are JSON on standard output."""
        log = self.docker.container(name).log
        return [json.loads(line) for line in log.text("stdout").splitlines()]

    def messages(self, name: str) -> str:
        """Return everything that a container has said."""
        return self.docker.container(name).log.text()

    async def page(self, name: str, path: str) -> tuple[int, str]:
        """Return status and text of what a worker answers; (0, "") while nobody does."""
        url = f"http://{self.docker.container(name).made.address}:8080{path}"
        try:
            async with aiohttp.ClientSession() as session, session.get(url) as answer:
                return answer.status, await answer.text()
        except aiohttp.ClientError:
            return 0, ""

    async def health(self, name: str) -> dict[str, Any]:
        """Return what a worker's /health answers."""
        _, text = await self.page(name, "/health")
        document: dict[str, Any] = json.loads(text)
        return document

    async def answers(self, name: str, path: str, status: int, words: str = "") -> str:
        """Wait until a page is answered with *status* and *words*; return its text."""
        deadline = time.monotonic() + 30
        while True:
            seen = await self.page(name, path)
            if seen[0] == status and words in seen[1]:
                return seen[1]
            assert time.monotonic() < deadline, f"{path}: {seen}\n{self.messages(name)[-4000:]}"
            await asyncio.sleep(LOOK)

    async def becomes_ready(self, name: str) -> None:
        """Wait until a worker would take a job."""
        await self.answers(name, "/readyz", 200)

    async def stands_by(self, name: str, words: str) -> str:
        """Wait until a worker says *words* of why it takes no job; check that it lives and stays.

        Return all that it says of that.
        """
        said = await self.answers(name, "/readyz?verbose", 503, words)
        assert (await self.page(name, "/livez"))[0] == 200
        health = await self.docker("exec", name, "fondation-worker", "health", check=False)
        assert health.status == 1
        assert words in health.out
        assert words in self.messages(name)
        assert (await self.state(name))["Status"] == "running"
        assert self.docker.container(name).restarts == 0
        return said

    async def runs_of_claude(self, name: str) -> list[int]:
        """Return the processes of the CLI in a container, as this host sees them."""
        found = []
        for pid in await self.docker.container(name).processes():
            with suppress(OSError):  # it has ended
                if Path(f"/proc/{pid}/exe").readlink().name == "claude":
                    found.append(pid)
        return found

    async def state(self, name: str) -> dict[str, Any]:
        """Return what `docker inspect` says of a container's state."""
        (found,) = json.loads((await self.docker("inspect", name)).out)
        state: dict[str, Any] = found["State"]
        return state

    async def clear(self) -> None:
        """Remove every container that is left, and cancel the jobs that it had."""
        if names := (await self.docker("ps", "-a", "-q")).out.split():
            await self.remove(*names)
        for job in await self.outside.queue.jobs(limit=100):
            if job["status"] not in ENDED:
                await self.outside.queue.cancel(job["id"])

    async def remove(self, *names: str) -> None:
        """Remove containers, and the volumes that nobody named."""
        await self.docker("rm", "-f", "-v", *names)


@asynccontextmanager
async def dock(suite: str, home: Path) -> AsyncIterator[Dock]:
    """Put everything around an engine that has the image for *suite*; nothing of it is left after.

    Whoever is in the block is in the engine's network.
    """
    image = await asyncio.to_thread(built, suite)
    srv = home / "srv"
    srv.mkdir(parents=True)

    def build(build: Build) -> str:
        return built(suite, with_claude="WITH_CLAUDE=0" not in build.arguments)

    async with (
        engine({IMAGE: image}, build=build, paths={"/srv": srv}) as docker,
        outside(home / "outside", HOST, port=PORT) as parts,
    ):
        for url in (parts.api.url, parts.git.url):  # Convex itself listens there
            await docker.expose(_port(url))
        yield Dock(
            docker=docker,
            outside=parts,
            srv=srv,
            convex=f"http://{HOST}:{PORT}",
            model=f"http://{HOST}:{_port(parts.api.url)}",
        )
        assert await parts.in_flight() == []
    await asyncio.to_thread(shutil.rmtree, srv)


def _port(url: str) -> int:
    return urlsplit(url).port or 443
