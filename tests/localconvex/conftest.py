"""A backend on the functions of this folder."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from devtools.backend import Backend, local_backend
from tests.localconvex.clients import ADMIN_KEY, FUNCTIONS


@pytest.fixture
def admin_key_file(tmp_path: Path) -> Path:
    """Return a file with the admin key."""
    file = tmp_path / "admin-key"
    file.write_text(f"{ADMIN_KEY}\n")
    return file


@pytest.fixture
async def backend(tmp_path: Path, admin_key_file: Path) -> AsyncIterator[Backend]:
    """Run a backend with faults, an admin key and an environment variable."""
    async with local_backend(
        tmp_path / "data",
        faults=True,
        functions=FUNCTIONS,
        admin_key_file=admin_key_file,
        environ={"GREETING": "hello"},
    ) as backend:
        yield backend
