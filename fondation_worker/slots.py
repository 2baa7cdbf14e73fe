"""The slots of one worker: each waits for work, claims it and does it, until told to stop."""

import asyncio
import logging
from dataclasses import dataclass, field

from fondation_worker import events, logs
from fondation_worker.clock import boottime
from fondation_worker.config import Config
from fondation_worker.convex import KEY_REFUSED
from fondation_worker.errors import CredentialRefused, LeaseLost, Refused
from fondation_worker.gate import KEY, Gate
from fondation_worker.ledger import Ledger
from fondation_worker.pipeline import JobEnd, Tools, run_job
from fondation_worker.queue import Claimed, Idle
from fondation_worker.trace import Trace
from fondation_worker.verdict import Verdict
from fondation_worker.wakeup import EMPTY_WAIT, Bell

logger = logging.getLogger(__name__)

REFUSED_WAIT = 60.0  # seconds before a worker whose key was refused asks again


@dataclass(frozen=True, slots=True)
class Ends:
    """How a worker is asked to end.

    *leave* lets running jobs end, for a restart after an upgrade; *stop* lets them drain for a
    while; *hurry* does not.
    """

    leave: asyncio.Event = field(default_factory=asyncio.Event)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    hurry: asyncio.Event = field(default_factory=asyncio.Event)

    def ask(self) -> None:
        """Ask to stop; asked again: to stop at once."""
        if self.stop.is_set():
            self.hurry.set()
        self.stop.set()

    @property
    def has_begun(self) -> bool:
        """Whether nothing is claimed any more."""
        return self.leave.is_set() or self.stop.is_set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Latest:
    """The job that ended last."""

    at: float  # seconds on `boottime`
    words: str


class Worker:
    """The slots of one process, and what they share."""

    def __init__(
        self, config: Config, tools: Tools, bell: Bell, gate: Gate, ledger: Ledger, ends: Ends
    ) -> None:
        self.active = 0
        self._ledger = ledger
        self.latest: Latest | None = None
        self.changed = asyncio.Event()  # set when a job begins or ends; who waits for it clears it
        self._config = config
        self._tools = tools
        self._bell = bell
        self._gate = gate
        self._ends = ends
        self._group: asyncio.TaskGroup | None = None  # while it works
        self._slots: dict[int, asyncio.Task[None]] = {}
        self._claiming = asyncio.Lock()  # slots ask one after another
        self._empty: tuple[int, float, Idle] | None = None  # the last empty claim: heard, when
        self._idle: set[asyncio.Timeout] = set()
        self._waits = 0  # failures in a row that had to wait

    async def work(self) -> None:
        """Run the slots until the stop, and running jobs on for the drain time, no longer."""
        try:
            async with asyncio.timeout(None) as patience, asyncio.TaskGroup() as self._group:
                self._fill(self._group)
                enders = [
                    self._group.create_task(self._leave()),
                    self._group.create_task(self._drain(patience)),
                ]
                while busy := [slot for slot in self._slots.values() if not slot.done()]:
                    await asyncio.wait(busy, return_when=asyncio.FIRST_COMPLETED)
                for ender in enders:
                    ender.cancel()
        except TimeoutError:  # the slots that were still busy have given their jobs back
            logger.info("the drain time is over")
        finally:
            self._group = None

    def change(self, config: Config, tools: Tools) -> None:
        """Do the next jobs with these; slots that are too many end when they are idle."""
        self._config, self._tools = config, tools
        if self._group and not self._ends.has_begun:
            self._fill(self._group)
            self._group.create_task(self._bell.ring())  # whoever waits looks at the new settings

    def _fill(self, group: asyncio.TaskGroup) -> None:
        """Start the slots that are missing."""
        for number in range(self._config.max_concurrent_jobs):
            if number not in self._slots or self._slots[number].done():
                self._slots[number] = group.create_task(self._slot(number))

    def _is_wanted(self, number: int) -> bool:
        return not self._ends.has_begun and number < self._config.max_concurrent_jobs

    async def _leave(self) -> None:
        """Wait for an upgrade; then end idle slots at once, and after UPGRADE_DRAIN stop."""
        await self._ends.leave.wait()
        drain = self._config.upgrade_drain
        logger.info(
            "upgraded: %d jobs may run on for %g s before the restart",
            self.active, drain, extra=events.UPGRADED.extra,
        )  # fmt: skip
        self._end_idle()
        await asyncio.sleep(drain)
        self._ends.stop.set()

    def _end_idle(self) -> None:
        for scope in self._idle:
            scope.reschedule(asyncio.get_running_loop().time())

    async def _drain(self, patience: asyncio.Timeout) -> None:
        """Wait for the stop; then end idle slots at once, and busy ones after the drain time."""
        await self._ends.stop.wait()
        drain = self._config.drain_time
        if self.active:
            words = "stopping: %d jobs may run on for %g s"
            logger.info(words, self.active, drain, extra=events.STOPPING.extra)
        else:
            logger.info("stopping: no job runs", extra=events.STOPPING.extra)
        self._end_idle()
        patience.reschedule(asyncio.get_running_loop().time() + drain)
        await self._ends.hurry.wait()
        logger.info("stopping at once: %d jobs are given back", self.active)
        patience.reschedule(asyncio.get_running_loop().time())

    async def _slot(self, number: int) -> None:
        """Wait for work, claim, do one job; again and again."""
        while self._is_wanted(number):
            found = await self._next_job(number)
            if found is None:
                continue
            claimed, woken_by = found
            await self._tell_others(woken_by)
            with logs.about(claimed.token, claimed.job.repository):
                await self._do(claimed, woken_by)

    async def _next_job(self, number: int) -> tuple[Claimed, str] | None:
        """Return a job that is ours, and what woke us to it; None when it is time to stop."""
        scope = asyncio.timeout(None)
        self._idle.add(scope)
        try:
            async with scope:
                woken_by = "start"
                while self._is_wanted(number):
                    heard = self._bell.count
                    answer = await self._claim(number, heard)
                    if isinstance(answer, Claimed):
                        return answer, woken_by
                    woken_by = await self._bell.wait(heard=heard, next_in=answer.next_in)
                    self._tools.metrics.woken(woken_by)
        except TimeoutError:
            return None
        finally:
            self._idle.discard(scope)
        return None

    async def _claim(self, number: int, heard: int) -> Claimed | Idle:
        """Claim, unless another slot was answered "nothing" a moment ago about the same news."""
        async with self._claiming:
            await self._gate.opened()
            if not self._is_wanted(number):
                return Idle(next_in=0.0)
            if self._empty:
                known, when, idle = self._empty
                if known == heard and boottime() - when < EMPTY_WAIT:
                    return idle
            try:
                answer = await self._tools.queue.claim(first=self._tools.outbox.before_claim)
            except Refused as error:
                words = KEY_REFUSED if error.code == "unauthorized" else str(error)
                self._gate.close(KEY, REFUSED_WAIT, f"Convex refuses to give work: {words}")
                return Idle(next_in=0.0)
            if isinstance(answer, Idle):
                self._empty = (heard, boottime(), answer)
            elif self._gate.is_paused:  # while this claim was on its way
                return await self._given_back(answer)
            return answer

    async def _given_back(self, claimed: Claimed) -> Idle:
        """Give a job back that was claimed too late."""
        with logs.about(claimed.token, claimed.job.repository):
            try:
                await self._tools.queue.release(
                    claimed.token, reason="paused", deadline=lambda: claimed.deadline
                )
                words = "claimed while the pause began: given back"
                logger.info(words, extra=events.RELEASED.extra)
            except (LeaseLost, Refused) as error:
                logger.warning("could not be given back (%s); its lease will run out", error)
        return Idle(next_in=0.0)

    async def _tell_others(self, woken_by: str) -> None:
        """Let the other slots look too: where one job is there may be more."""
        if woken_by == "poll" and self._bell.push_is_up:
            logger.warning("a poll found work that push did not announce; polling")
            self._bell.missed()
        if self._config.max_concurrent_jobs > 1:
            await self._bell.ring()

    async def _do(self, claimed: Claimed, woken_by: str) -> None:
        """Do one job, and take from its end whether to go on claiming."""
        job, tools = claimed.job, self._tools
        logger.info(
            "claimed: %s, attempt %d of %d",
            job.repository, job.attempts + 1, job.max_attempts, extra=events.CLAIMED.extra,
        )  # fmt: skip
        self._ledger.began(claimed, woken_by)
        self.active += 1
        self.changed.set()
        try:
            end = await self._written_down(claimed)
        finally:
            self.active -= 1
        self.latest = Latest(at=boottime(), words=end.words)
        self.changed.set()
        has_changed = tools.claude.credential != self._tools.claude.credential
        if end.outcome == "completed" and not has_changed:
            self._gate.worked()
        self._heed(end.verdict, has_changed=has_changed)

    async def _written_down(self, claimed: Claimed) -> JobEnd:
        """Do one job; write down how it ended, also when it is cancelled."""
        begun, trace = boottime(), Trace()

        def ended(end: JobEnd) -> None:
            self._ledger.ended(claimed, end, seconds=boottime() - begun, trace=trace)

        end = await run_job(claimed, self._tools, trace, waits=self._waits, stopped=ended)
        ended(end)
        return end

    def _heed(self, verdict: Verdict | None, *, has_changed: bool) -> None:
        """Close the gate if what ended a job would end every other as well.

        What was said of a credential that *has_changed* since says nothing of the new one.
        """
        if verdict is None or not verdict.pause:
            self._waits = 0
            return
        self._waits += 1
        words = self._tools.queue.redact(verdict.message)  # it may quote the service, and is shown
        if verdict.failure == CredentialRefused.failure:
            if not has_changed:
                self._gate.refuse(words)
        else:
            self._gate.close("model", verdict.pause, words)
