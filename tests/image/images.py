"""Images and the roots of containers, by buildah, in a storage that whoever starts it names."""

import asyncio
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devtools.storage import environment, limits


class Failed(Exception):
    """Docker itself would say this, and end with *status*."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What an image says about its containers."""

    name: str
    id: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    environment: tuple[str, ...]
    user: str
    directory: str
    volumes: tuple[str, ...]
    stop_signal: str
    health: tuple[str, ...]  # the command, first CMD or CMD-SHELL; none is no health check
    health_limit: float  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """What `docker build` is to build."""

    arguments: tuple[str, ...]  # NAME=VALUE
    file: Path
    context: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A container's root: a writable layer over its image."""

    name: str  # buildah's
    path: Path


async def output(*words: str | Path, env: Mapping[str, str] | None = None) -> str:
    """Return what a program of this host prints; raise Failed with what it says else."""
    process = await asyncio.create_subprocess_exec(
        *words,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, said = await process.communicate()
    if process.returncode != 0:
        raise Failed(f"{words[0]} {words[1]}: {said.decode(errors='replace')}", 125)
    return printed.decode()


class Images:
    """The images of this project's storage; those in *names* are called so by this engine."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = dict(names)
        self._built: list[str] = []
        self._environment = environment()

    def build(self, build: Build) -> str:
        """Build an image from what is in the storage, and return its id; raise Failed."""
        words = ["buildah", "build", "--quiet", "--format=docker", "--pull=never"]
        words += limits()
        words += [f"--build-arg={argument}" for argument in build.arguments]
        words += [f"--file={build.file}", str(build.context)]
        done = subprocess.run(
            words, env=self._environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise Failed(done.stderr)
        self._built.append(done.stdout.split()[-1])
        return self._built[-1]

    async def remove_built(self) -> None:
        """Remove the images that were built here."""
        for identity in self._built:
            await self._buildah("rmi", identity)

    async def find(self, name: str) -> Image:
        """Return what the image *name* says; raise Failed when it is not there."""
        try:
            known = self.names.get(name.removesuffix(":latest"), name)
            found = await self._buildah("inspect", "--type=image", known)
        except Failed as error:
            raise Failed(f"Unable to find image '{name}' locally", 125) from error
        document = json.loads(found)
        given = document["Docker"]["config"]
        health = given.get("Healthcheck") or {}
        return Image(
            name=name,
            id=document["FromImageID"],
            entrypoint=tuple(given.get("Entrypoint") or ()),
            command=tuple(given.get("Cmd") or ()),
            environment=tuple(given.get("Env") or ()),
            user=given.get("User", ""),
            directory=given.get("WorkingDir") or "/",
            volumes=tuple(given.get("Volumes") or ()),
            stop_signal=given.get("StopSignal") or "SIGTERM",
            health=_health(health),
            health_limit=health.get("Timeout", 0) / 1e9 or 30.0,
        )

    async def root(self, image: Image, name: str) -> Root:
        """Make a root for a container, and mount it."""
        await self._buildah("from", "--pull-never", "--name", name, image.id)
        return Root(name=name, path=Path((await self._buildah("mount", name)).strip()))

    async def remove(self, root: Root) -> None:
        """Unmount a root and remove it."""
        await self._buildah("rm", root.name)

    async def has(self, root: Root) -> bool:
        """Whether a root is still in the storage."""
        try:
            await self._buildah("inspect", "--type=container", root.name)
        except Failed:
            return False
        return True

    async def _buildah(self, *words: str) -> str:
        return await output("buildah", *words, env=self._environment)


def _health(given: dict[str, Any]) -> tuple[str, ...]:
    test = tuple(given.get("Test") or ())
    return () if test[:1] == ("NONE",) else test
