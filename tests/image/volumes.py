"""Volumes: directories of the engine's that begin as the image's directory they are seen at."""

import asyncio
import secrets
import shutil
from pathlib import Path

from tests.image.images import Failed, output


class Volumes:
    """The volumes below one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._directory.mkdir()

    def names(self) -> list[str]:
        """Return the names of all."""
        return sorted(path.name for path in self._directory.iterdir())

    def create(self, name: str = "") -> str:
        """Make the volume *name* if it is not there; without a name, a new one. Return its name."""
        name = name or secrets.token_hex(32)
        self.path(name).mkdir(parents=True, exist_ok=True)
        return name

    def path(self, name: str) -> Path:
        """Return where the volume's content lies."""
        return self._directory / name / "_data"

    async def fill(self, name: str, root: Path, target: str) -> None:
        """Give an empty volume the content, owner and mode of *target* in a container's *root*."""
        content, source = self.path(name), root / target.lstrip("/")
        if not source.is_dir() or any(content.iterdir()):
            return
        if source.resolve() != source:
            raise Failed(f"{target}: a volume behind a symbolic link is not known here", 125)
        await output("cp", "--archive", "--no-target-directory", source, content)

    async def remove(self, name: str) -> None:
        """Remove a volume with its content."""
        if not self.path(name).exists():
            raise Failed(f"Error response from daemon: get {name}: no such volume")
        await asyncio.to_thread(shutil.rmtree, self._directory / name)
