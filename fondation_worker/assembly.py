"""What one worker process is made of, put together; and what a reload changes of it."""

from dataclasses import replace
from typing import Any

from fondation_worker import __version__, claude, logs
from fondation_worker.admission import Limits, Reason, refusals
from fondation_worker.board import Board
from fondation_worker.claims import Claims, Deployment
from fondation_worker.clock import boottime
from fondation_worker.config import Config, secrets_of
from fondation_worker.convex import Convex
from fondation_worker.errors import DiskTrouble
from fondation_worker.gate import KEY, Gate
from fondation_worker.host import readings
from fondation_worker.life import Life
from fondation_worker.outbox import Outbox
from fondation_worker.pause import Pause
from fondation_worker.pipeline import Tools
from fondation_worker.presence import Standing
from fondation_worker.queue import Queue
from fondation_worker.redact import Redactor
from fondation_worker.runner.process import ProcessRoom
from fondation_worker.slots import Ends, Worker
from fondation_worker.statusline import Situation
from fondation_worker.tidy import to_the_end
from fondation_worker.treesize import Limits as TreeLimits
from fondation_worker.verdict import verdict
from fondation_worker.wakeup import Bell, Listener, Subscription
from fondation_worker.web.health import Health
from fondation_worker.workspace import remove

STATE_LIMIT = 200  # characters of the state that Convex is told


class Process:
    """What this process is made of; it is what a reload changes."""

    def __init__(
        self,
        config: Config,
        convex: Convex,
        worker_id: str,
        life: Life,
        ends: Ends,
        *,
        to_journal: bool,
    ) -> None:
        self._to_journal = to_journal
        self._started = boottime()
        self._config = config
        self._convex = convex
        self._worker_id = worker_id
        self._instance = instance = life.instance
        self._life = life
        self._ends = ends
        self._secrets = set(secrets_of(config))  # all that this process has known
        self.no_port: str | None = None  # why nobody is answered at HEALTH_ADDRESS
        self._queue = Queue(
            convex,
            key=config.worker_key,
            worker_id=worker_id,
            instance=instance,
            lease_time=config.lease_time,
            redact=Redactor(secrets_of(config)),
        )
        self._bell = Bell(config.poll_interval)
        self._board = Board(
            interval=lambda: config.heartbeat_interval,
            hears=lambda: self._bell.hears_cancellations,
        )
        deployment = Deployment(url=config.convex_url, functions=config.convex_functions)
        claims = Claims(life, deployment)
        self.outbox = Outbox(life, claims, deployment, self._queue)
        self._tools = Tools(
            queue=self._queue,
            board=self._board,
            room=ProcessRoom(),
            life=life,
            claims=claims,
            outbox=self.outbox,
            **_of_settings(config),
        )
        self.pause = Pause(config.state_dir)
        self.gate = Gate(self._host, self.pause)
        self.worker = Worker(config, self._tools, self._bell, self.gate, ends)
        self.listener = Listener(self._subscription(), self._bell, self._board.hear)

    def change(self, config: Config) -> None:
        """Work with these settings from now on; running jobs keep what they began with."""
        before, self._config = self._config, config
        self._secrets |= set(secrets_of(config))
        redact = Redactor(sorted(self._secrets))
        logs.set_up(config.log_format, config.log_level, redact, to_journal=self._to_journal)
        self._queue.renew(key=config.worker_key, redact=redact)
        self._tools = replace(self._tools, **_of_settings(config))
        self._bell.poll_interval = config.poll_interval
        if config.worker_key != before.worker_key:
            self.gate.open(KEY)
            self.listener.renew(self._subscription())
        if config.credential != before.credential:
            self.gate.open("model")
            self.gate.test_now = True
        self.worker.change(config, self._tools)

    def look(self) -> Health:
        """Return what /health answers."""
        now = self._queue.now()
        return Health(
            worker_id=self._worker_id,
            instance=self._instance,
            uptime=boottime() - self._started,
            active_jobs=self.worker.active,
            slots=self._config.max_concurrent_jobs,
            push=self._bell.push_is_up,
            paused=self.pause.reason,
            skew=self._queue.skew,
            outbox=self._outbox_in_figures(),
            jobs=tuple(
                shown.to_document(now=now, redact=self._queue.redact)
                for shown in self._board.jobs()
            ),
            reasons=tuple(reason.words for reason in self._reasons()),
        )

    def _outbox_in_figures(self) -> dict[str, object]:
        waiting, oldest = self.outbox.waiting
        return {
            "waiting": waiting,
            "oldestSeconds": None if oldest is None else round(oldest),
            "refused": self.outbox.refused,
            "ofOtherDeployments": self.outbox.elsewhere,
        }

    def situation(self) -> Situation:
        """Return what a service manager is told."""
        past = self.worker.past
        return Situation(
            ending=self._ending(),
            unreachable=self._convex.is_unreachable,
            trouble=self._convex.trouble and self._queue.redact(self._convex.trouble),
            push=self._bell.push_is_up,
            busy=self.worker.active,
            slots=self._config.max_concurrent_jobs,
            reasons=tuple(reason.words for reason in self.gate.reasons()),
            no_port=self.no_port,
            past=(boottime() - past.at, past.words) if past else None,
        )

    def _ending(self) -> str | None:
        if self._ends.stop.is_set():
            return "stopping"
        return "upgraded, waiting for running jobs" if self._ends.leave.is_set() else None

    def standing(self) -> Standing:
        """Return what operators are told through Convex."""
        reasons = self._own_reasons()  # trouble with Convex cannot be told to it
        usual = "working" if self.worker.active else "idle"
        return Standing(
            slots=self._config.max_concurrent_jobs,
            busy=self.worker.active,
            state="; ".join(reason.words for reason in reasons)[:STATE_LIMIT] or usual,
            key=" ".join(reason.key for reason in reasons),
        )

    async def tell(self, standing: Standing) -> None:
        """Report to Convex once."""
        await self._queue.report(
            version=__version__, slots=standing.slots, busy=standing.busy, state=standing.state
        )

    async def probe(self) -> None:
        """Ask the model's service for next to nothing, with the credential. Raises JobError."""
        try:
            scratch = self._life.work() / "probe"
            scratch.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise DiskTrouble(f"nothing could be made below TEMP_DIR: {error}") from error
        try:
            await claude.probe(self._tools.room, self._tools.claude, scratch)
        finally:
            await to_the_end(remove(scratch))

    def pause_for(self, error: Exception) -> float:
        """Return the seconds that a worker claims nothing after *error*."""
        return verdict(error, in_a_row=1, now=self._queue.now()).pause

    def _reasons(self) -> tuple[Reason, ...]:
        """Return everything that keeps this worker from its work."""
        if not (trouble := self._convex.trouble):
            return self._own_reasons()
        return (*self._own_reasons(), Reason(key="trouble", words=f"Convex: {trouble}"))

    def _own_reasons(self) -> tuple[Reason, ...]:
        if not (ending := self._ending()):
            return self.gate.reasons()
        return (Reason(key="stopping", words=ending), *self.gate.reasons())

    def _host(self) -> tuple[Reason, ...]:
        limits = Limits(
            disk_floor=self._config.disk_floor, memory_pressure=self._config.memory_pressure_limit
        )
        found = refusals(readings(self._config), limits)
        if unkept := self.outbox.in_memory:
            words = f"{unkept} finished results could not be written below STATE_DIR"
            found += (Reason(key="outbox", words=words),)
        return found

    def _subscription(self) -> Subscription:
        config = self._config
        return Subscription(
            url=config.convex_url,
            functions=config.convex_functions,
            key=config.worker_key,
            instance=self._instance,
        )


def _of_settings(config: Config) -> dict[str, Any]:
    """Return what of `Tools` comes from the settings."""
    return {
        "claude": claude.Setup(
            cli=config.claude_cli,
            model=config.claude_model,
            base_url=config.anthropic_base_url,
            credential=config.credential,
        ),
        "limits": claude.Limits(stall=config.stall_time, tool=config.tool_time),
        "allow_local": config.allow_local_repositories,
        "lease_time": config.lease_time,
        "job_timeout": config.job_timeout,
        "clone_timeout": config.clone_timeout,
        "clone_limits": TreeLimits(
            size=config.repository_size_limit, files=config.repository_files_limit
        ),
    }
