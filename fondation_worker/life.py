"""One life of a worker: its directories, and what lives before it left behind.

STATE_DIR/lives/INSTANCE/ holds what outlives a restart, TEMP_DIR/INSTANCE/ what does not. Each has
a lock file that is locked as long as the process lives. A directory whose lock is free belongs to
a life that is over; whoever gets the lock may clear it. So workers can share both parents.
"""

import asyncio
import fcntl
import logging
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fondation_worker import durable
from fondation_worker.errors import DiskTrouble
from fondation_worker.leftovers import kill_left_by
from fondation_worker.tidy import to_the_end
from fondation_worker.workspace import remove

logger = logging.getLogger(__name__)

LOCK = "lock"
MARK = b"A life of fondation-worker; its process holds a lock on this file.\n"


@dataclass(frozen=True, slots=True)
class Earlier:
    """A life that is over, and whose directory is ours to clear: we hold its lock."""

    directory: Path
    lock: int

    @property
    def instance(self) -> str:
        """Whose life it was."""
        return self.directory.name

    def leave(self) -> None:
        """Let go of the directory, for another worker to find."""
        os.close(self.lock)


class Life:
    """This process's life. Made by `lived`; what a full disk refuses is tried again later."""

    def __init__(self, state_dir: Path, temp_dir: Path, instance: str) -> None:
        self.instance = instance
        self.state_dir = state_dir
        self._state = state_dir / "lives" / instance
        self._work = temp_dir / instance
        self._locks: dict[Path, int] = {}
        self.earlier: list[Earlier] = []  # with claims or results in them; the outbox clears them

    def state(self) -> Path:
        """Return the directory that outlives this process, made and locked. Raises OSError."""
        return self._made(self._state)

    def work(self) -> Path:
        """Return the directory that does not outlive it, made and locked. Raises DiskTrouble."""
        try:
            return self._made(self._work)
        except OSError as error:
            raise DiskTrouble(f"{self._work}: could not be made: {error.strerror}") from error

    def _made(self, directory: Path) -> Path:
        if directory not in self._locks:
            self._locks[directory] = _make(directory)
        return directory

    async def begin(self) -> None:
        """Make the directories, and clear what dead lives have left of runs."""
        for make in (self.state, self.work):
            try:
                make()
            except (OSError, DiskTrouble) as error:
                logger.warning("%s; trying again with each job", error)
        gone = _dead(self._work.parent)
        self.earlier = _dead(self._state.parent)
        try:
            await self._clear(gone)
        finally:
            for life in gone:
                life.leave()

    async def _clear(self, gone: list[Earlier]) -> None:
        """Kill the processes of dead lives, then remove their work directories."""
        instances = {life.instance for life in (*gone, *self.earlier)}
        if not instances:
            return
        logger.info("clearing what is left of %s", ", ".join(sorted(instances)))
        directories = [life.directory for life in gone]
        if killed := await asyncio.to_thread(kill_left_by, instances, directories):
            logger.warning("killed %d processes that a life before this one left", killed)
        for directory in directories:
            await remove(directory)

    async def end(self) -> None:
        """Remove the work directory; and the other one, unless something in it waits."""
        for life in self.earlier:
            drop_if_bare(life)
        if self._work in self._locks:
            await remove(self._work)
        if (lock := self._locks.pop(self._state, None)) is not None:
            drop_if_bare(Earlier(self._state, lock))
        for lock in self._locks.values():
            os.close(lock)


@asynccontextmanager
async def lived(state_dir: Path, temp_dir: Path, instance: str) -> AsyncIterator[Life]:
    """Live as *instance* while the body runs, after clearing what dead lives left of runs."""
    life = Life(state_dir, temp_dir, instance)
    try:
        await life.begin()
        yield life
    finally:
        await to_the_end(life.end())


def drop_if_bare(life: Earlier) -> bool:
    """Remove the directory if nothing waits in it, and let go of it; return whether it went."""
    try:
        for place in life.directory.iterdir():
            if place.is_dir():
                place.rmdir()  # refuses when something is in it
        durable.remove_quietly(life.directory)
    except OSError:
        return False
    finally:
        life.leave()
    return not life.directory.exists()


def _make(directory: Path) -> int:
    """Make *directory* with a lock file in it that is locked; return the lock. Raises OSError.

    The lock gets its name only once it is locked: until then nobody takes the directory for one of
    a dead life.
    """
    durable.make(directory.parent)
    directory.mkdir(mode=0o700)
    draft = directory / f".{LOCK}"
    try:
        durable.write(draft, MARK)
        lock = os.open(draft, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            draft.rename(directory / LOCK)
            durable.settle(directory.parent)
        except BaseException:
            os.close(lock)
            raise
    except BaseException:
        durable.remove_quietly(directory)
        raise
    return lock


def _dead(parent: Path) -> list[Earlier]:
    """Return the lives below *parent* that are over, each with its lock taken."""
    try:
        found = sorted(parent.iterdir())
    except OSError:  # there is none, or none can be seen: nothing to clear
        return []
    locked = [(directory, _lock_of(directory)) for directory in found]
    return [Earlier(directory, lock) for directory, lock in locked if lock is not None]


def _lock_of(directory: Path) -> int | None:
    """Return the lock of a dead life's directory; None for a live one's and what is not ours."""
    try:
        found = directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            return None
        lock = os.open(directory / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        is_ours = os.read(lock, len(MARK) + 1) == MARK
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Somebody may have cleared it between the two lines above; then its name is gone.
        if is_ours and os.path.samestat(os.fstat(lock), os.stat(directory / LOCK)):  # noqa: PTH116
            return lock
    except OSError:
        pass
    os.close(lock)
    return None
