"""Where an engine keeps its things: a directory that is locked for as long as the engine lives.

What is left in one that nobody holds any more is of an engine that was killed. It is ended and
removed before the next engine begins.
"""

import asyncio
import fcntl
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.image.images import Failed, Images, Root
from tests.image.runc import Runc

PREFIX = "fondation-docker-"
ROOTS = "roots"  # in it is a file for each root that there is, with its name


@asynccontextmanager
async def workplace() -> AsyncIterator[Path]:
    """Give a new directory; whatever is still of it at the end is ended and removed."""
    above = Path(tempfile.gettempdir())
    for left in above.glob(f"{PREFIX}*"):
        with suppress(FileNotFoundError, BlockingIOError):
            descriptor = _locked(left)
            await _sweep(left)
            os.close(descriptor)
    draft = Path(tempfile.mkdtemp(prefix=f".{PREFIX}"))
    descriptor = _locked(draft)
    made = draft.rename(above / draft.name[1:])
    (made / ROOTS).mkdir()
    try:
        yield made
    finally:
        await _sweep(made)
        os.close(descriptor)


def _locked(directory: Path) -> int:
    """Lock a directory; raise BlockingIOError when somebody has. It is free when this is closed."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    return descriptor


async def _sweep(directory: Path) -> None:
    """End and remove what is still of an engine, whatever state it is in."""
    runc, images = Runc(directory), Images({})
    for name in await runc.names():
        await runc.delete(name)
    for file in (directory / ROOTS).glob("*"):
        with suppress(Failed):  # it may not have been made
            await images.remove(Root(name=file.name, path=directory))
    await asyncio.to_thread(shutil.rmtree, directory)
