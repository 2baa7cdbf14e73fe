"""Images and the roots of containers, by buildah, in a storage that whoever starts it names."""

import asyncio
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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
    """The words of `docker build`."""

    tags: tuple[str, ...]
    arguments: tuple[str, ...]  # NAME=VALUE
    file: Path
    context: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A container's root: a writable layer over its image."""

    name: str  # buildah's
    path: Path


async def output(*words: str | Path, environment: Mapping[str, str] | None = None) -> str:
    """Return what a program of this host prints; raise Failed with what it says else."""
    process = await asyncio.create_subprocess_exec(
        *words,
        env=os.environ | (environment or {}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, said = await process.communicate()
    if process.returncode != 0:
        raise Failed(f"{words[0]} {words[1]}: {said.decode(errors='replace')}", 125)
    return printed.decode()


class Images:
    """The images of one storage; *environment* tells buildah where it is."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def build(self, build: Build) -> None:
        """Build an image from what is in the storage; raise Failed."""
        words = ["buildah", "bud", "--isolation=chroot", "--format=docker", "--pull=never"]
        words += [f"--tag={tag}" for tag in build.tags]
        words += [f"--build-arg={argument}" for argument in build.arguments]
        words += [f"--file={build.file}", str(build.context)]
        environment = os.environ | self._environment
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failed(done.stderr)

    async def find(self, name: str) -> Image:
        """Return what the image *name* says; raise Failed when it is not there."""
        try:
            found = await self._buildah("inspect", "--type=image", name)
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

    async def root(self, image: Image) -> Root:
        """Make a root for a container, and mount it."""
        made = (await self._buildah("from", "--pull-never", image.id)).strip()
        return Root(name=made, path=Path((await self._buildah("mount", made)).strip()))

    async def remove(self, root: Root) -> None:
        """Unmount a root and remove it."""
        await self._buildah("umount", root.name)
        await self._buildah("rm", root.name)

    async def roots(self) -> set[str]:
        """Return the names of all the roots in the storage."""
        found: list[dict[str, Any]] = json.loads(await self._buildah("containers", "--json"))
        return {container["containername"] for container in found or ()}

    async def _buildah(self, *words: str) -> str:
        return await output("buildah", *words, environment=self._environment)


def _health(given: dict[str, Any]) -> tuple[str, ...]:
    test = tuple(given.get("Test") or ())
    return () if test[:1] == ("NONE",) else test
