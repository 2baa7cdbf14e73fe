"""A repository, and a server for it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.repositories import GitServer, Repository, git_server, repository


@pytest.fixture
def there(tmp_path: Path) -> Repository:
    """Return a repository to clone."""
    return repository(tmp_path / "served" / "there")


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GitServer]:
    """Serve what lies below `served`."""
    async with git_server(tmp_path / "served", tmp_path / "keys") as serving:
        monkeypatch.setenv("GIT_SSL_CAINFO", str(serving.certificate))
        yield serving
