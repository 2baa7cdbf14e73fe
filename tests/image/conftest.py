"""What holds for the tests of the image, and of the engine that runs it."""

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LIMIT = 1800  # seconds: roots and images may have to be made for the first; each wait has its own


@pytest.hookimpl(tryfirst=True)  # before `-m` is heeded
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is here."""
    for item in items:
        if HERE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.system)
        item.add_marker(pytest.mark.timeout(LIMIT))
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="containers need root"))
