"""Where a job's command runs: one seam, one room so far (the process room).

A room runs one command, away from everything else as far as it can, and leaves nothing of it
behind, however the run ends. Both rooms will keep this promise.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One command to run."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)  # all of it; nothing is inherited
    directory: Path
    scratch: Path  # where the room may keep files while the command runs
    standard_input: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended."""

    status: int  # of exit; -N when signal N ended it
    killed: int  # processes it left behind, now dead
    max_rss: int  # bytes, of the largest of its processes
    cpu_seconds: float
    complaint: str  # the end of its standard error


class Run(Protocol):
    """A command that runs."""

    @property
    def complaint(self) -> str:
        """The end of its standard error, as far as it has come."""

    def output(self) -> AsyncIterator[bytes]:
        """Give its standard output in chunks, to the end, however slowly they are taken."""

    async def ended(self) -> Ended | None:
        """Wait until the command and everything that it started is gone.

        None means that it was killed from outside, and that nobody is left to tell more.
        """


class Room(Protocol):
    """A way to run commands."""

    def run(self, order: Order) -> AbstractAsyncContextManager[Run]:
        """Start *order*; on leaving the context, whatever still runs of it is killed and gone."""
