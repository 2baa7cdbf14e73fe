"""The process room: the command is a child of this host, watched by `launcher.py`.

It gets a session of its own and an environment made from nothing. It is *not* kept from the host's
files or network: that is the unit room's work. What is promised here is that nothing survives:
when the context is left, or this process dies, the launcher kills every descendant.
"""

import asyncio
import json
import logging
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fondation_worker.errors import DiskTrouble
from fondation_worker.leftovers import kill_marked
from fondation_worker.runner import Ended, Order
from fondation_worker.tidy import to_the_end
from fondation_worker.words import last_words

logger = logging.getLogger(__name__)

LAUNCHER = Path(__file__).with_name("launcher.py")
# Opened once, and run by its descriptor: an upgrade may put another version in its place while this
# process still works.
# Its interpreter is Debian's own, not a link of an environment that an upgrade points elsewhere.
PYTHON = os.path.realpath(sys.executable)
_PROGRAM = os.open(LAUNCHER, os.O_RDONLY | os.O_CLOEXEC)
MARK = "FONDATION_RUN"  # in the environment of a run, which it tells from every other
COMPLAINT_LIMIT = 4096  # bytes of standard error that are kept
OUTPUT_LIMIT = 1024 * 1024 * 1024  # bytes of one file, standard output included
CHUNK = 65536  # bytes
LOOK_INTERVAL = 0.05  # seconds between two looks at the output
PIPE_LIMIT = 1.0  # seconds that the end of a pipe may be late, when who held it is dead
KILL_LIMIT = 10.0  # seconds that the launcher may take to end everything


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How to start a command under the launcher."""

    argv: tuple[str, ...]
    descriptors: tuple[int, ...]  # that the new process must be given under their own numbers


def launched(argv: tuple[str, ...], lifeline: socket.socket, *, file_limit: int) -> Launch:
    """Return how to run *argv* under the launcher, tied to *lifeline*.

    No file that it writes grows over *file_limit* bytes.
    """
    launcher = (PYTHON, "-I", "-S", f"/proc/self/fd/{_PROGRAM}")
    return Launch(
        argv=(*launcher, str(lifeline.fileno()), str(file_limit), *argv),
        descriptors=(lifeline.fileno(), _PROGRAM),
    )


class ProcessRun:
    """A command under the launcher. Made by `ProcessRoom.run`."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        lifeline: asyncio.StreamReader,
        output: int,
        mark: str,
    ) -> None:
        self._process = process
        self._mark = mark
        self._output = output
        self._lifeline = lifeline
        self._complaint = b""

    @property
    def complaint(self) -> str:
        """The end of the command's standard error, as far as it has come."""
        text = self._complaint.decode(errors="replace")
        return text if len(self._complaint) < COMPLAINT_LIMIT else last_words(text, len(text) - 1)

    async def output(self) -> AsyncIterator[bytes]:
        """Give the command's standard output in chunks, until it and all that it started is gone.

        The output is a file. The Claude CLI ends without waiting for the reader of a full pipe or
        socket, and the rest, its result first of all, is lost (measured with 2.1.197).
        """
        position = 0
        while True:
            is_over = self._process.returncode is not None  # asked before the last look
            while chunk := os.pread(self._output, CHUNK, position):
                position += len(chunk)
                yield chunk
                await asyncio.sleep(0)  # a command that prints fast must not hold up the rest
            if is_over:
                return
            await asyncio.sleep(LOOK_INTERVAL)

    async def ended(self) -> Ended | None:
        """Wait until the command and all that it started is gone; None: the launcher was killed."""
        report = json.loads(await self._lifeline.readline() or "null")
        await self.gone()
        if report is None:
            return None
        return Ended(
            status=-9 if report["status"] is None else report["status"],
            killed=report["killed"],
            max_rss=report["maxRssKib"] * 1024,
            cpu_seconds=report["cpuSeconds"],
            complaint=self.complaint,
        )

    async def feed(self, standard_input: bytes) -> None:
        """Write the command's input and close it."""
        if stdin := self._process.stdin:
            with suppress(ConnectionError):  # it ended without reading: its status tells why
                stdin.write(standard_input)
                await stdin.drain()
            stdin.close()

    async def listen(self) -> None:
        """Keep the end of the command's standard error."""
        stderr = self._process.stderr
        while stderr and (chunk := await stderr.read(CHUNK)):
            self._complaint = (self._complaint + chunk)[-COMPLAINT_LIMIT:]

    async def gone(self) -> None:
        """Wait until the launcher has ended, as it does once its lifeline is cut.

        Not by `Process.wait`, which also waits for the end of pipes that an orphan may hold.
        """
        try:
            async with asyncio.timeout(KILL_LIMIT):
                while self._process.returncode is None:
                    await asyncio.sleep(LOOK_INTERVAL)
        except TimeoutError:
            words = "a run's processes do not die; process %d waits for them"
            logger.error(words, self._process.pid)  # noqa: TRY400 no traceback tells more
        if self._process.returncode:  # it was killed itself, and could not see to the rest
            survivors = await asyncio.to_thread(kill_marked, {self._mark.encode()})
            logger.warning("a run's launcher was killed; %d processes outlived it", survivors)


class ProcessRoom:
    """Runs commands as children of this host."""

    @asynccontextmanager
    async def run(self, order: Order) -> AsyncIterator[ProcessRun]:
        """Start *order*; on leaving, nothing of it is left. Raises DiskTrouble."""
        with _output_file(order.scratch) as output:
            ours, theirs = socket.socketpair()
            with theirs:
                reader, lifeline = await asyncio.open_connection(sock=ours)
                mark = f"{MARK}={secrets.token_hex(8)}"
                try:
                    process = await _start(order, theirs, output.fileno(), mark)
                except BaseException:
                    lifeline.close()
                    raise
            run = ProcessRun(process, reader, output.fileno(), mark)
            async with asyncio.TaskGroup() as pipes:
                tasks = [pipes.create_task(run.feed(order.standard_input))]
                tasks.append(pipes.create_task(run.listen()))
                try:
                    yield run
                finally:
                    lifeline.close()
                    await to_the_end(_over(run, tasks))
                    for task in tasks:
                        task.cancel()


async def _over(run: ProcessRun, pipes: list[asyncio.Task[None]]) -> None:
    """Wait until *run* is gone and its pipes have been read to their ends, if nobody holds them."""
    await run.gone()
    await asyncio.wait(pipes, timeout=PIPE_LIMIT)


def _output_file(scratch: Path) -> IO[bytes]:
    """Return a file without a name below *scratch*. Raises DiskTrouble."""
    try:
        return tempfile.TemporaryFile(dir=scratch, buffering=0)
    except OSError as error:
        raise DiskTrouble(f"{scratch}: no file could be made: {error.strerror}") from error


async def _start(
    order: Order, lifeline: socket.socket, output: int, mark: str
) -> asyncio.subprocess.Process:
    """Start the launcher on *order*, with its standard output to descriptor *output*."""
    launch = launched(order.argv, lifeline, file_limit=OUTPUT_LIMIT)
    try:
        return await asyncio.create_subprocess_exec(
            *launch.argv,
            env=dict(order.environment) | dict([mark.split("=")]),
            cwd=order.directory,
            stdin=asyncio.subprocess.PIPE,
            stdout=output,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=launch.descriptors,
            start_new_session=True,
        )
    except OSError as error:
        raise DiskTrouble(f"the run could not be started: {error.strerror}") from error
