"""What holds for every test."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Early: importing it while pytest ends meets a fault of CPython 3.11.2 (python/cpython#106905).
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from devtools.roots import SUITES

settings.register_profile("patient", deadline=None)  # machines differ; speed is no property here
settings.load_profile("patient")

# No test may meet a real credential or a real model by accident.
for name in list(os.environ):
    if name.startswith(("ANTHROPIC", "CLAUDE")):
        del os.environ[name]


SYSTEM = ("tests/image/", "tests/system/")  # what needs a booted root or an image
SYSTEM_LIMIT = 1800  # seconds: either may have to be made for the first; each wait has its own


@pytest.hookimpl(tryfirst=True)  # before `-m` is heeded
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a booted root or an image: with that, with a limit, and for root alone."""
    for item in items:
        if not item.nodeid.startswith(SYSTEM):
            continue
        item.add_marker(pytest.mark.system)
        item.add_marker(pytest.mark.timeout(SYSTEM_LIMIT))
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="Debian roots and containers need root"))


@pytest.fixture(scope="module", params=SUITES)
def suite(request: pytest.FixtureRequest) -> str:
    """Name the Debian that a test is about."""
    return str(request.param)


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Each test goes to whoever is free; those that share a machine or an image stay together.

    The mark `xdist_group` is for that, but pytest 9 does not let it into a test's name.
    """

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        if not file.startswith(SYSTEM):
            return nodeid
        suite, _, _ = test.partition("[")[2].rstrip("]").partition("-")
        return f"{file} {suite}"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    """Hand the tests out in this way, whatever `--dist` says."""
    return Scheduling(config, log)


@pytest.fixture
def no_memory_kill() -> Iterator[None]:
    """Keep the test that lets the kernel kill from running beside: a host has one count of it."""
    with Path(__file__).open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


@pytest.fixture
def memory_kill() -> Iterator[None]:
    """Wait until no test minds such a kill."""
    with Path(__file__).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
