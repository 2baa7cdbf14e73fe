"""The daemon: slots that wait for work, claim it and do it, until told to stop."""

import asyncio
import logging
import secrets
import signal

from fondation_worker import __version__, claude, logs
from fondation_worker.clock import boottime
from fondation_worker.config import Config, secrets_of
from fondation_worker.convex import connect
from fondation_worker.errors import Refused
from fondation_worker.host import kept_label, settled_on_this_host
from fondation_worker.pipeline import Tools, run_job
from fondation_worker.queue import Claimed, Idle, Queue
from fondation_worker.redact import Redactor
from fondation_worker.runner.process import ProcessRoom
from fondation_worker.verdict import Verdict
from fondation_worker.wakeup import EMPTY_WAIT, Bell, Subscription, listen
from fondation_worker.web.health import Health, health_server

logger = logging.getLogger(__name__)

REFUSED_WAIT = 60.0  # seconds before a worker whose key was refused asks again


async def serve(config: Config) -> None:
    """Do jobs until SIGTERM or SIGINT; then drain, and return.

    Raises BadSettings for what only this host can tell of the settings; nothing was started then.
    """
    config = settled_on_this_host(config)
    worker_id = config.worker_id or kept_label(config.state_dir)
    instance = f"{worker_id}-{secrets.token_hex(4)}"
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    logger.info("fondation-worker %s starts as %s", __version__, instance)
    if config.key_travels_in_the_open():
        logger.warning("CONVEX_URL is http: whoever is on the way can read this worker's key")
    async with connect(config.convex_url, config.convex_functions) as convex:
        queue = Queue(
            convex,
            key=config.worker_key,
            worker_id=worker_id,
            instance=instance,
            lease_time=config.lease_time,
            redact=Redactor(secrets_of(config)),
        )
        bell = Bell(config.poll_interval)
        worker = Worker(config, _tools(config, queue, instance), bell, stop)

        def look() -> Health:
            return Health(
                worker_id=worker_id,
                instance=instance,
                uptime=boottime() - worker.started,
                active_jobs=worker.active,
                slots=config.max_concurrent_jobs,
                push=bell.push_is_up,
                reasons=worker.reasons(convex.trouble),
            )

        async with health_server(config.health_address, look), asyncio.TaskGroup() as group:
            to_hear = Subscription(
                url=config.convex_url, functions=config.convex_functions, key=config.worker_key
            )
            listener = group.create_task(listen(to_hear, bell))
            await worker.work()
            listener.cancel()
    logger.info("fondation-worker has stopped")


class Worker:
    """The slots of one process, and what they share."""

    def __init__(self, config: Config, tools: Tools, bell: Bell, stop: asyncio.Event) -> None:
        self.started = boottime()
        self.active = 0
        self._config = config
        self._tools = tools
        self._bell = bell
        self._stop = stop
        self._claiming = asyncio.Lock()  # slots ask one after another
        self._empty: tuple[int, float, Idle] | None = None  # the last empty claim: heard, when
        self._idle: set[asyncio.Timeout] = set()
        self._pause_until = float("-inf")
        self._pause_reason = ""
        self._waits = 0  # failures in a row that had to wait

    async def work(self) -> None:
        """Run the slots until the stop, and running jobs on for the drain time, no longer."""
        try:
            async with asyncio.timeout(None) as patience, asyncio.TaskGroup() as group:
                count = self._config.max_concurrent_jobs
                slots = [group.create_task(self._slot()) for _ in range(count)]
                drainer = group.create_task(self._drain(patience))
                await asyncio.wait(slots)
                drainer.cancel()
        except TimeoutError:  # the slots that were still busy have given their jobs back
            logger.info("the drain time is over")

    async def _drain(self, patience: asyncio.Timeout) -> None:
        """Wait for the stop; then end idle slots at once, and busy ones after the drain time."""
        await self._stop.wait()
        now = asyncio.get_running_loop().time()
        logger.info("stopping: %d jobs may run on for %g s", self.active, self._config.drain_time)
        for scope in self._idle:
            scope.reschedule(now)
        patience.reschedule(now + self._config.drain_time)

    async def _slot(self) -> None:
        """Wait for work, claim, do one job; again and again."""
        while not self._stop.is_set():
            found = await self._next_job()
            if found is None:
                continue
            claimed, woken_by = found
            await self._tell_others(woken_by)
            with logs.about(claimed.token):
                await self._do(claimed)

    async def _next_job(self) -> tuple[Claimed, str] | None:
        """Return a job that is ours, and what woke us to it; None when it is time to stop."""
        scope = asyncio.timeout(None)
        self._idle.add(scope)
        try:
            async with scope:
                woken_by = "start"
                while True:
                    heard = self._bell.count
                    answer = await self._claim(heard)
                    if isinstance(answer, Claimed):
                        return answer, woken_by
                    woken_by = await self._bell.wait(heard=heard, next_in=answer.next_in)
        except TimeoutError:
            return None
        finally:
            self._idle.discard(scope)

    async def _claim(self, heard: int) -> Claimed | Idle:
        """Claim, unless another slot was answered "nothing" a moment ago about the same news."""
        async with self._claiming:
            await self._until_pause_is_over()
            if self._empty:
                known, when, idle = self._empty
                if known == heard and boottime() - when < EMPTY_WAIT:
                    return idle
            try:
                answer = await self._tools.queue.claim()
            except Refused as error:
                logger.error("Convex refuses to give work: %s", error)  # noqa: TRY400
                self._pause(REFUSED_WAIT, f"Convex refuses to give work: {error}")
                return Idle(next_in=REFUSED_WAIT)
            if isinstance(answer, Idle):
                self._empty = (heard, boottime(), answer)
            return answer

    async def _tell_others(self, woken_by: str) -> None:
        """Let the other slots look too: where one job is there may be more."""
        if woken_by == "poll" and self._bell.push_is_up:
            logger.warning("a poll found work that push did not announce; polling")
            self._bell.missed()
        if self._config.max_concurrent_jobs > 1:
            await self._bell.ring()

    async def _do(self, claimed: Claimed) -> None:
        """Do one job, and take from its end whether to go on claiming."""
        job = claimed.job
        logger.info(
            "claimed: %s, attempt %d of %d", job.repository, job.attempts + 1, job.max_attempts
        )
        self.active += 1
        try:
            verdict = await run_job(claimed, self._tools, waits=self._waits)
        finally:
            self.active -= 1
        self._heed(verdict)

    def _heed(self, verdict: Verdict | None) -> None:
        """Pause if what ended a job would end every other as well."""
        if verdict is None or not verdict.pause:
            self._waits = 0
            return
        self._waits += 1
        logger.warning("claiming nothing for %.0f s: %s", verdict.pause, verdict.message)
        self._pause(verdict.pause, verdict.message)

    def _pause(self, seconds: float, reason: str) -> None:
        self._pause_until = max(self._pause_until, boottime() + seconds)
        self._pause_reason = reason

    async def _until_pause_is_over(self) -> None:
        while (left := self._pause_until - boottime()) > 0:
            await asyncio.sleep(min(left, 1.0))  # the loop's own clock stands while a host sleeps

    def reasons(self, convex_trouble: str | None) -> tuple[str, ...]:
        """Return what keeps this worker from its work, in words."""
        paused = f"paused: {self._pause_reason}" if self._pause_until > boottime() else None
        convex = f"Convex: {convex_trouble}" if convex_trouble else None
        stopping = "stopping" if self._stop.is_set() else None
        return tuple(reason for reason in (stopping, convex, paused) if reason)


def _tools(config: Config, queue: Queue, instance: str) -> Tools:
    return Tools(
        queue=queue,
        room=ProcessRoom(),
        claude=claude.Setup(
            cli=config.claude_cli,
            model=config.claude_model,
            base_url=config.anthropic_base_url,
            credential=config.credential,
        ),
        instance=instance,
        temp_dir=config.temp_dir,
        allow_local=config.allow_local_repositories,
        lease_time=config.lease_time,
        heartbeat_interval=config.heartbeat_interval,
        job_timeout=config.job_timeout,
        clone_timeout=config.clone_timeout,
    )
