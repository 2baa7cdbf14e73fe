"""A directory for one attempt, private to this worker, and gone afterwards."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from fondation_worker.errors import DiskTrouble
from fondation_worker.job import Token
from fondation_worker.tidy import to_the_end

logger = logging.getLogger(__name__)

REMOVE_LIMIT = 120.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """The places of one attempt."""

    tree: Path  # the repository's files
    home: Path  # HOME of what runs over them
    scratch: Path  # its TMPDIR


@asynccontextmanager
async def workspace(parent: Path, token: Token) -> AsyncIterator[Workspace]:
    """Make a directory for the attempt below *parent*; remove it and all in it on every path.

    Raises DiskTrouble.
    """
    top = parent / name_of(token)
    places = Workspace(tree=top / "tree", home=top / "home", scratch=top / "tmp")
    try:
        top.mkdir(mode=0o700)
    except OSError as error:
        raise DiskTrouble(f"{top}: could not be made: {error.strerror}") from error
    try:
        for place in (places.tree, places.home, places.scratch):
            place.mkdir(mode=0o700)
    except OSError as error:
        await remove(top)
        raise DiskTrouble(f"{top}: nothing could be made in it: {error.strerror}") from error
    try:
        yield places
    finally:
        await to_the_end(remove(top))


def name_of(token: Token) -> str:
    """Return a file name for the attempt."""
    return f"{quote(token.job_id, safe='')[:150]}-{token.attempt}"


async def remove(top: Path) -> None:
    """Remove *top*; what cannot be removed is said in the log, and nothing is raised.

    `rm`, not `shutil.rmtree`: that one recurses, and a repository may be deeper than our stack.
    """
    try:
        removing = await asyncio.create_subprocess_exec(
            *("rm", "-rf", "--one-file-system", "--", str(top)),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        async with asyncio.timeout(REMOVE_LIMIT):
            await removing.wait()
    except (OSError, TimeoutError) as error:
        logger.error("rm: %s", str(error) or "takes too long")  # noqa: TRY400 told again below
    if top.exists():
        logger.error("%s could not be removed whole; remove it by hand", top)
