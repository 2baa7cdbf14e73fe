"""A directory for one attempt, private to this worker, and gone afterwards."""

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fondation_worker.errors import DiskTrouble
from fondation_worker.job import Token

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """The places of one attempt."""

    tree: Path  # the repository's files
    home: Path  # HOME of what runs over them
    scratch: Path  # its TMPDIR


@asynccontextmanager
async def workspace(parent: Path, instance: str, token: Token) -> AsyncIterator[Workspace]:
    """Make a directory for the attempt below *parent*; remove it and all in it on every path.

    Its name carries the instance, so that workers may share *parent*. Raises DiskTrouble.
    """
    top = parent / f"{instance}-{token.job_id[-12:]}-{token.attempt}"
    places = Workspace(tree=top / "tree", home=top / "home", scratch=top / "tmp")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        top.mkdir(mode=0o700)
        for place in (places.tree, places.home, places.scratch):
            place.mkdir(mode=0o700)
    except OSError as error:
        await _remove(top)
        raise DiskTrouble(f"{parent}: no directory could be made: {error.strerror}") from error
    try:
        yield places
    finally:
        await _remove(top)


async def _remove(top: Path) -> None:
    """Remove *top* in a thread: heartbeats must not wait for a large tree."""
    await asyncio.to_thread(shutil.rmtree, top, ignore_errors=True)
    if top.exists():
        logger.error("%s could not be removed whole; remove it by hand", top)
