"""Runs the Claude CLI over a tree, and says what came of it."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from fondation_worker.account import Account
from fondation_worker.clock import boottime
from fondation_worker.errors import ClaudeFailed, DiskTrouble, JobError, OutOfMemory, TimedOut
from fondation_worker.invocation import Setup, order_for
from fondation_worker.memory import kills
from fondation_worker.result import Usage
from fondation_worker.runner import Ended, Order, Room, Run
from fondation_worker.stall import Limits, Watch
from fondation_worker.telling import for_log, in_words
from fondation_worker.transcript import Retrying, Transcript
from fondation_worker.workspace import Workspace

__all__ = ["Answer", "Limits", "Setup", "analyse", "order_for", "probe"]

logger = logging.getLogger(__name__)

COMMAND_NOT_RUN = 127  # the launcher's status, as a shell's, for a command that is not there
_KILLED = {-9, 128 + 9}  # by SIGKILL, which was not ours; the second by way of a shell
PROBE_LIMIT = 60.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What Claude wrote, and what it cost."""

    text: str
    usage: Usage


async def analyse(
    room: Room,
    order: Order,
    *,
    progress: Callable[[str], None],
    log: Callable[[str, str], None],
    limits: Limits,
) -> Answer:
    """Run *order* to its end and return what Claude wrote.

    On the way *progress* is told what it looks at, and *log* (level, text) what happens. Raises a
    JobError unless all six conditions of `Account.success` hold; Stalled for a run that stands
    still longer than *limits* allow. On cancel every process of the run is dead before the
    cancellation goes on.
    """
    account, kills_before = Account(), kills()
    async with room.run(order) as run:
        follower = _Follower(order, account, progress=progress, log=log)
        halted = await follower.follow(run, limits)
        ended = None if halted else await run.ended()
        complaint = run.complaint
    failure = halted.failure if halted else None
    try:
        if failure:
            raise failure
        if ended is not None:
            follower.note(ended)
            _judge(order, account, ended)
        elif halted is None:
            raise _killed("the run's launcher", kills_before)
        status = ended.status if ended else None
        if account.finished is None and status in _KILLED:
            raise _killed("the Claude CLI", kills_before)
        finished = account.success(exit_status=status, complaint=complaint)
    except JobError:
        _log_complaint(log, "error", complaint)
        raise
    _log_complaint(log, "info", complaint)
    return Answer(text=finished.text, usage=finished.usage)


def _killed(what: str, kills_before: int) -> JobError:
    """Return what it means that *what* was killed by nobody here: the kernel counts its own."""
    if kills() > kills_before:
        return OutOfMemory(
            f"{what} was killed: this host, or its limit for the worker, ran out of memory"
        )
    return ClaudeFailed(
        f"{what} was killed (SIGKILL) from outside; the kernel counted no out-of-memory kill"
    )


def _judge(order: Order, account: Account, ended: Ended) -> None:
    """Raise what an end without a result says of this host."""
    if account.finished is None and os.statvfs(order.scratch).f_bavail == 0:
        raise DiskTrouble(f"{order.scratch}: the disk is full, and the CLI's output with it")
    if ended.status == COMMAND_NOT_RUN and account.finished is None:
        raise ClaudeFailed(f"CLAUDE_CLI could not be run: {ended.complaint.strip()}")


def _log_complaint(log: Callable[[str, str], None], level: str, complaint: str) -> None:
    if complaint.strip():
        log(level, f"the CLI's standard error ended with:\n{complaint.strip()}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Halted:
    """The run was not followed to its end. Without a *failure* its result is there."""

    failure: JobError | None


class _Follower:
    """Reads a run, and passes on what it says."""

    def __init__(
        self,
        order: Order,
        account: Account,
        *,
        progress: Callable[[str], None],
        log: Callable[[str, str], None],
    ) -> None:
        self._tree = order.directory
        self._account = account
        self._progress = progress
        self._log = log
        self._transcript = Transcript()

    async def follow(self, run: Run, limits: Limits) -> _Halted | None:
        """Read *run* to the end of its output, to a refused credential, or until it stands still.

        More tries with that credential would cost time and prove nothing.
        """
        watch = Watch(limits=limits, heard=boottime())
        loop = asyncio.get_running_loop()
        scope = asyncio.timeout(watch.left(boottime()))
        try:
            async with scope:
                async for chunk in _closed(run.output()):
                    if refused := self._take(chunk, watch):
                        return _Halted(failure=refused)
                    scope.reschedule(loop.time() + watch.left(boottime()))
        except TimeoutError:
            if not scope.expired():
                raise
            return _Halted(failure=watch.verdict(boottime()))
        return None

    def _take(self, chunk: bytes, watch: Watch) -> JobError | None:
        """Pass on what *chunk* says; return the refusal of the credential, if it is one."""
        now = boottime()
        watch.hear(now)
        for event in self._transcript.feed(chunk):
            self._account.take(event)
            watch.take(event, now)
            if line := for_log(event, self._tree):
                self._log(*line)
            if isinstance(event, Retrying) and event.status in {401, 403}:
                return self._account.api_error()
            if words := in_words(event, self._tree):
                self._progress(words)
        return None

    def note(self, ended: Ended) -> None:
        """Log what the run used and left behind."""
        logger.info(
            "the CLI used %.0f MiB and %.1f s of CPU", ended.max_rss / 1048576, ended.cpu_seconds
        )
        read = self._transcript
        if ended.killed or read.broken or read.unknown:
            logger.info(
                "the run left %d processes, %d broken lines and %d of an unknown kind",
                ended.killed, read.broken, read.unknown,
            )  # fmt: skip


async def _closed(output: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Give *output* and a line end, for a last line that has none."""
    async for chunk in output:
        yield chunk
    yield b"\n"


async def probe(room: Room, setup: Setup, scratch: Path) -> None:
    """Ask the model for one word, to learn whether it can be asked at all; takes a minute at most.

    In *scratch*, an empty directory, with the CLI, the environment and the room of every run, and
    without tools. Raises CredentialRefused or another JobError.
    """
    places = Workspace(tree=scratch / "tree", home=scratch / "home", scratch=scratch / "tmp")
    try:
        for place in (places.tree, places.home, places.scratch):
            place.mkdir(mode=0o700)
    except OSError as error:
        raise DiskTrouble(f"{scratch}: nothing could be made in it: {error.strerror}") from error
    order = order_for(setup, "Answer with the word: ready", None, places.tree, places, tools="")
    limits = Limits(stall=PROBE_LIMIT, tool=PROBE_LIMIT, after_result=1.0)
    scope = asyncio.timeout(PROBE_LIMIT)
    try:
        async with scope:
            await analyse(room, order, progress=_unheard, log=_unheard, limits=limits)
    except TimeoutError:
        if not scope.expired():
            raise
        raise TimedOut(f"the model did not answer a test within {PROBE_LIMIT:g} s") from None


def _unheard(*_: str) -> None:
    """Take what nobody wants to hear."""
