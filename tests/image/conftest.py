"""What the tests of the image share."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.image.dock import Dock, dock as docked


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def harbour(suite: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Dock]:
    """Put Convex, the model and a repository around an engine; the tests are in its network."""
    async with docked(suite, tmp_path_factory.mktemp(f"dock-{suite}")) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def dock(harbour: Dock) -> AsyncIterator[Dock]:
    """Give it to one test: what a failure leaves there is nothing for the next one."""
    yield harbour
    await harbour.clear()
