"""What the tests of the image share."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from devtools.roots import SUITES
from tests.image.dock import Dock, dock as docked

HERE = Path(__file__).parent
LIMIT = 1800  # seconds: roots and images may have to be made for the first; each wait has its own


@pytest.hookimpl(tryfirst=True)  # before `-m` is heeded
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is here; `tests/conftest.py` keeps the tests of a file and a Debian together."""
    for item in items:
        if HERE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.system)
        item.add_marker(pytest.mark.timeout(LIMIT))
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="containers need root"))


@pytest.fixture(scope="module", params=SUITES)
def suite(request: pytest.FixtureRequest) -> str:
    """Name the Debian that a test is about."""
    return str(request.param)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def dock(suite: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Dock]:
    """Put Convex, the model and a repository around an engine; the tests are in its network."""
    async with docked(suite, tmp_path_factory.mktemp(f"dock-{suite}")) as made:
        yield made
