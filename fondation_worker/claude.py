"""Runs the Claude CLI over a tree, and says what came of it."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from fondation_worker.account import Account
from fondation_worker.clock import boottime
from fondation_worker.errors import ClaudeFailed, DiskTrouble, JobError, OutOfMemory
from fondation_worker.invocation import Setup, order_for
from fondation_worker.memory import kills
from fondation_worker.metrics import Metrics
from fondation_worker.redact import Redactor
from fondation_worker.result import Usage
from fondation_worker.runner import Ended, Order, Room, Run
from fondation_worker.sources import TOKEN_KIND
from fondation_worker.stall import Limits, Watch
from fondation_worker.telling import for_log, in_words
from fondation_worker.trace import Seen, Trace
from fondation_worker.transcript import (
    Event,
    LimitReached,
    Retrying,
    Started,
    ToolCall,
    Transcript,
)

__all__ = ["Answer", "Limits", "Listeners", "Setup", "analyse", "order_for"]

logger = logging.getLogger(__name__)

COMMAND_NOT_RUN = 127  # the launcher's status, as a shell's, for a command that is not there
_KILLED = {-9, 128 + 9}  # by SIGKILL, which was not ours; the second by way of a shell


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What Claude wrote, and what it cost."""

    text: str
    usage: Usage


def _unheard(*_: str) -> None:
    """Take what nobody wants to hear."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """Who is told what is seen of a run."""

    progress: Callable[[str], None] = _unheard  # what it looks at
    log: Callable[[str, str], None] = _unheard  # level and text of what happens
    metrics: Metrics = field(default_factory=Metrics)
    trace: Trace = field(default_factory=Trace)
    seen: Seen = field(default_factory=Seen)


async def analyse(
    room: Room,
    order: Order,
    *,
    listeners: Listeners,
    limits: Limits,
) -> Answer:
    """Run *order* to its end and return what Claude wrote; tell *listeners* what is seen.

    Raises a JobError unless all six conditions of `Account.success` hold; Stalled for a run that
    stands still longer than *limits* allow. On cancel every process of the run is dead before the
    cancellation goes on.
    """
    # Of a login nobody else in this process knows what its token is.
    with Redactor.also(order.environment.get(TOKEN_KIND)):
        return await _analysed(room, order, listeners, limits)


async def _analysed(room: Room, order: Order, listeners: Listeners, limits: Limits) -> Answer:
    """Do what `analyse` promises."""
    account, kills_before, log = Account(), kills(), listeners.log
    async with room.run(order) as run:
        follower = _Follower(order, account, listeners)
        try:
            halted = await follower.follow(run, limits)
        finally:
            follower.sum_up()
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
        raise ClaudeFailed("CLAUDE_CLI could not be run", said=ended.complaint.strip())


def _log_complaint(log: Callable[[str, str], None], level: str, complaint: str) -> None:
    if complaint.strip():
        log(level, f"the CLI's standard error ended with:\n{complaint.strip()}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Halted:
    """The run was not followed to its end. Without a *failure* its result is there."""

    failure: JobError | None


class _Follower:
    """Reads a run, and passes on what it says."""

    def __init__(self, order: Order, account: Account, listeners: Listeners) -> None:
        self._tree = order.directory
        self._account = account
        self._tell = listeners
        self._transcript = Transcript()
        self._begun = boottime()
        self._longest_silence = 0.0
        self._has_spoken = False

    async def follow(self, run: Run, limits: Limits) -> _Halted | None:
        """Read *run* to the end of its output, to a refused credential, or until it stands still.

        More tries with that credential would cost time and prove nothing.
        """
        watch = Watch(limits=limits, heard=boottime())
        self._tell.trace.heard = watch.heard
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
        self._longest_silence = max(self._longest_silence, now - watch.heard)
        watch.hear(now)
        self._tell.trace.heard = now
        for event in self._transcript.feed(chunk):
            self._account.take(event)
            watch.take(event, now)
            self._measure(event, now)
            if line := for_log(event, self._tree):
                self._tell.log(*line)
            if isinstance(event, Retrying) and event.status in {401, 403}:
                return self._account.api_error()
            if words := in_words(event, self._tree):
                self._tell.progress(words)
        return None

    def _measure(self, event: Event, now: float) -> None:
        metrics = self._tell.metrics
        if not self._has_spoken:
            self._has_spoken = True
            metrics.spoke_first(now - self._begun)
        match event:
            case Started():
                self._tell.seen.version, self._tell.seen.trouble = event.version, None
            case ToolCall():
                metrics.tool_call(event.name)
            case Retrying():
                metrics.retry(event.status)
            case LimitReached():
                metrics.met_limit()
                self._tell.seen.limit_resets_at = event.resets_at

    def sum_up(self) -> None:
        """Count what the run cost, however it ended, and its longest silence."""
        trace = self._tell.trace
        if trace.heard is not None:
            silence = max(self._longest_silence, boottime() - trace.heard)
            self._tell.metrics.was_silent(silence)
        trace.heard = None
        if finished := self._account.finished:
            trace.usage = finished.usage
            self._tell.metrics.cost(finished.usage, finished.shares)

    def note(self, ended: Ended) -> None:
        """Log what the run used and left behind."""
        logger.info(
            "the CLI used %.0f MiB and %.1f s of CPU", ended.max_rss / 1048576, ended.cpu_seconds
        )
        self._tell.metrics.killed(ended.killed)
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
