"""What a container is made of, and what came of a command."""

from dataclasses import dataclass
from pathlib import Path

from tests.image.arguments import Mount, Run
from tests.image.images import Image, Root
from tests.image.log import Log
from tests.image.network import Namespace
from tests.image.runc import Running, status_of

RUNC_FAILED = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How a command ended."""

    status: int
    out: str = ""
    err: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """A process beside a container's first."""

    running: Running
    log: Log

    async def ended(self) -> Done:
        """Wait until it has ended, and tell how."""
        status = await self.running.ended()
        err = self.log.text("stderr")
        if status == RUNC_FAILED and "exec failed" in self.log.text():
            status = status_of(self.log.text())
        return Done(status=status, out=self.log.text("stdout"), err=err)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a container was made of; all of it is the container's own."""

    id: str
    name: str
    run: Run
    image: Image
    root: Root
    directory: Path
    logs: Path  # a file that outlives it
    network: Namespace
    number: int  # of its cable
    address: str
    mounts: tuple[Mount, ...]
    nameless: tuple[str, ...]  # volumes that go with it
    cgroup: str

    @property
    def hostname(self) -> str:
        """What it calls itself."""
        return self.run.hostname or self.id[:12]
