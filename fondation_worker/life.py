"""One life of a worker: its directories, and what lives before it left behind.

STATE_DIR/lives/INSTANCE/ holds what outlives a restart, TEMP_DIR/INSTANCE/ what does not. Each has
a lock file that is locked as long as the process lives. A directory whose lock is free belongs to
a life that is over; whoever gets the lock may clear it. So workers can share both parents.
"""

import asyncio
import errno
import fcntl
import logging
import os
import stat
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fondation_worker import durable
from fondation_worker.errors import DiskTrouble
from fondation_worker.leftovers import kill_left_by
from fondation_worker.tidy import to_the_end
from fondation_worker.workspace import remove

logger = logging.getLogger(__name__)

LOCK = "lock"
DRAFT = ".making-"  # what the name of a directory begins with until it is locked
LOOK = 0.05  # seconds between two looks at whether another worker has made its directories
MOST_LOOKS = 100
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

    It gets its name only once it is locked: until then nobody takes it for one of a dead life.
    """
    durable.make(directory.parent)
    with _alone_in(directory.parent):
        draft = directory.with_name(f"{DRAFT}{directory.name}")
        draft.mkdir(mode=0o700)
        try:
            durable.write(draft / LOCK, MARK)
            lock = os.open(draft / LOCK, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                draft.rename(directory)
                durable.settle(directory.parent)
            except BaseException:
                os.close(lock)
                raise
        except BaseException:
            durable.remove_quietly(draft)
            durable.remove_quietly(directory)
            raise
    return lock


@contextmanager
def _alone_in(parent: Path) -> Iterator[None]:
    """Let no other worker make a life below *parent* meanwhile. Raises OSError.

    So a draft that is found then is one of a process that died over it.
    """
    opened = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for _ in range(MOST_LOOKS):
            with suppress(BlockingIOError):
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(LOOK)  # before there is any work that could be held up
        else:
            raise OSError(errno.EBUSY, "another worker does not come to an end of its start")
        for draft in parent.glob(f"{DRAFT}*"):
            if draft.is_dir() and draft.lstat().st_uid == os.geteuid():
                durable.remove_quietly(draft)
        yield
    finally:
        os.close(opened)


def _dead(parent: Path) -> list[Earlier]:
    """Return the lives below *parent* that are over, each with its lock taken."""
    try:
        found = sorted(each for each in parent.iterdir() if not each.name.startswith(DRAFT))
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
