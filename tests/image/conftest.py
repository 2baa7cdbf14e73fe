"""What the tests of the image share."""

import os
from pathlib import Path

import pytest

from devtools.roots import SUITES

HERE = Path(__file__).parent
LIMIT = 1800  # seconds: a root and an image may have to be made for the first


@pytest.hookimpl(tryfirst=True)  # before `-m` is heeded
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is here; `tests/conftest.py` keeps the tests of a file and a Debian together."""
    for item in items:
        if HERE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.system)
        item.add_marker(pytest.mark.timeout(LIMIT))
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="building an image needs root"))


@pytest.fixture(scope="module", params=SUITES)
def suite(request: pytest.FixtureRequest) -> str:
    """Name the Debian that a test is about."""
    return str(request.param)
