"""One booted machine for each file of tests and each Debian; the tests of a file share it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from devtools.deb import built
from tests.outside import Outside, outside
from tests.system.archive import Archive, archive
from tests.system.machine import Machine, booted
from tests.system.site import Site, service


@pytest.fixture(scope="module")
def deb(suite: str) -> Path:
    """Build the package of this tree."""
    return built(suite)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def machine(suite: str) -> AsyncIterator[Machine]:
    """Boot a clean machine; the tests are in its network."""
    async with booted(suite) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(
    machine: Machine, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Outside]:
    """Put Convex, the model and a repository around the machine."""
    async with outside(tmp_path_factory.mktemp(machine.suite)) as parts:
        yield parts


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def packages(
    machine: Machine, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Archive]:
    """Serve the package in a signed repository that the machine knows."""
    async with archive(machine.suite, tmp_path_factory.mktemp("archive")) as served:
        await served.add_to(machine)
        yield served


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(machine: Machine, world: Outside, packages: Archive) -> AsyncIterator[Site]:
    """Install and configure two workers; nothing of them may be left at the end."""
    place = Site(machine=machine, outside=world)
    await packages.install(machine)
    await place.configure()
    await place.give_secrets()
    await place.give_claude()
    await place.trust_repositories()
    await place.systemctl("start", 1, 2)
    yield place
    await nothing_is_left(place)


async def nothing_is_left(site: Site) -> None:
    """Stop the workers; check that no process, lease or directory of a job is left."""
    await site.stop(1, 2)
    left = await site.machine.run("pgrep", "--list-full", "--uid=fondation-worker", check=False)
    assert left.stdout == ""
    assert await site.outside.in_flight() == []
    directories = await site.machine.run(
        "find", "/var/cache/fondation-worker", "-mindepth", "2", "-maxdepth", "2"
    )
    assert directories.stdout == ""
    assert await site.machine.processes(service(1)) == []
