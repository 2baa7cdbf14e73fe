"""The package in a signed repository for apt, as a user gets it."""

import asyncio
import os
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from devtools.deb import built, repacked
from devtools.roots import TOP
from fondation_worker import __version__
from tests.system.machine import Machine

SCRIPT = TOP / "packaging" / "apt-repository"
NAME = "Packages of a test"  # whose key signs them


@dataclass(slots=True, kw_only=True)
class Archive:
    """A repository with the package of this tree, and with later ones once they are published."""

    url: str
    deb: Path
    home: Path
    lines: list[str] = field(default_factory=list)  # what the script tells a user to type
    version: str = __version__  # of the newest program in it

    async def publish(self, *debs: Path) -> None:
        """Put packages of this Debian in, signed."""
        place = self.home / "dist" / self.deb.parent.name
        place.mkdir(parents=True, exist_ok=True)
        for deb in debs:
            (place / deb.name).unlink(missing_ok=True)
            (place / deb.name).symlink_to(deb)
        told = await asyncio.to_thread(
            _run, self.home, str(SCRIPT), str(self.home / "served"), NAME, str(self.home / "dist")
        )
        self.lines = re.findall(r"^  (.+)$", told, re.MULTILINE)

    async def publish_next(self) -> str:
        """Publish this package once more as the next version; return that."""
        begin, _, last = self.version.rpartition(".")
        self.version = f"{begin}.{int(last) + 1}"
        later = self.home / "later"
        later.mkdir(exist_ok=True)
        await self.publish(await asyncio.to_thread(repacked, self.deb, self.version, later))
        return self.version

    async def add_to(self, machine: Machine) -> None:
        """Let a machine know the repository, by the lines that a user is told to type."""
        for line in self.lines:
            await machine.run("sh", "-ec", line.replace("ADDRESS", self.url))

    async def install(self, machine: Machine) -> None:
        """Install the newest package on a machine, or upgrade to it."""
        await machine.run("apt-get", "update")
        await machine.run("apt-get", "install", "--yes", "fondation-worker", limit=120)


@asynccontextmanager
async def archive(suite: str, home: Path) -> AsyncIterator[Archive]:
    """Serve the package of this tree for that *suite*, built if need be; all lies below *home*."""
    deb = await asyncio.to_thread(built, suite)
    (home / "served").mkdir()
    (home / "gnupg").mkdir(mode=0o700)
    key = ("gpg", "--batch", "--passphrase", "", "--quick-generate-key", NAME, "default", "sign")
    await asyncio.to_thread(_run, home, *key)
    application = web.Application()
    application.router.add_static("/", home / "served")
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        served = Archive(url=url, deb=deb, home=home)
        await served.publish(deb)
        yield served
    finally:
        await runner.cleanup()
        await asyncio.to_thread(_run, home, "gpgconf", "--kill", "all")


def _run(home: Path, *command: str) -> str:
    """Run a program that needs the key below *home*; return what it printed."""
    environment = {"PATH": os.environ["PATH"], "GNUPGHOME": str(home / "gnupg")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
