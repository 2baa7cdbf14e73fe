"""What one worker process is made of, put together; and what a reload changes of it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from fondation_worker import __version__, claude, events, logs
from fondation_worker.admission import Reason
from fondation_worker.board import Board
from fondation_worker.claims import Claims, Deployment
from fondation_worker.config import Config, secrets_of
from fondation_worker.convex import Convex
from fondation_worker.errors import DiskTrouble, JobError
from fondation_worker.gate import KEY, Gate
from fondation_worker.history import History
from fondation_worker.ledger import Ledger
from fondation_worker.life import Life
from fondation_worker.lookout import Lookout, Parts, of_this_host
from fondation_worker.metrics import Metrics
from fondation_worker.outbox import Outbox
from fondation_worker.pause import Pause
from fondation_worker.pipeline import Tools
from fondation_worker.presence import Standing
from fondation_worker.probing import probe, version_of
from fondation_worker.queue import Queue
from fondation_worker.redact import Redactor
from fondation_worker.runner.process import ProcessRoom
from fondation_worker.slots import Ends, Worker
from fondation_worker.ticks import Ticks
from fondation_worker.tidy import to_the_end
from fondation_worker.trace import Seen
from fondation_worker.treesize import Limits as TreeLimits
from fondation_worker.verdict import verdict
from fondation_worker.wakeup import Bell, Listener, Subscription
from fondation_worker.workspace import remove

logger = logging.getLogger(__name__)

HISTORY_NAME = "history.jsonl"  # below STATE_DIR
VERSION_RETRY = 60.0  # seconds before a CLI that told no version is asked again


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
        metrics: Metrics,
        to_journal: bool,
    ) -> None:
        self._to_journal = to_journal
        self._config = config
        self._instance = instance = life.instance
        self._life = life
        self._seen = Seen()
        self._is_another_cli = asyncio.Event()
        self.metrics = metrics
        self._secrets = set(secrets_of(config))  # all that this process has known
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
        self.history = History(config.state_dir / HISTORY_NAME)
        ledger = Ledger(metrics, self.history, self._queue)
        self.outbox = Outbox(life, claims, deployment, self._queue, metrics.result, ledger.crashed)
        self._tools = Tools(
            queue=self._queue,
            board=self._board,
            room=ProcessRoom(),
            life=life,
            claims=claims,
            outbox=self.outbox,
            metrics=metrics,
            seen=self._seen,
            **_of_settings(config),
        )
        self.pause = Pause(config.state_dir)
        self.gate = Gate(self._host, self.pause, metrics.pause)
        self.ticks = Ticks()
        self.worker = Worker(config, self._tools, self._bell, self.gate, ledger, ends)
        self.listener = Listener(self._subscription(), self._bell, self._board.hear)
        parts = Parts(
            convex=convex,
            queue=self._queue,
            bell=self._bell,
            board=self._board,
            outbox=self.outbox,
            pause=self.pause,
            gate=self.gate,
            worker=self.worker,
            ledger=ledger,
            seen=self._seen,
            ticks=self.ticks,
            ends=ends,
        )
        self.lookout = Lookout(parts, lambda: self._config, worker_id, instance)

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
            self.gate.renew_credential()
        if config.claude_cli != before.claude_cli:
            self._is_another_cli.set()
        self.worker.change(config, self._tools)

    async def tell(self, standing: Standing) -> None:
        """Report to Convex once."""
        await self._queue.report(
            version=__version__, slots=standing.slots, busy=standing.busy, state=standing.state
        )

    async def probe(self) -> None:
        """Ask the model's service for next to nothing, with the credential. Raises JobError."""
        listeners = claude.Listeners(metrics=self.metrics, seen=self._seen)
        async with self._scratch("probe") as scratch:
            await probe(self._tools.room, self._tools.claude, scratch, listeners)

    async def keep_learning(self) -> None:
        """Know the CLI's version, for ever: ask at the start, and when another was set."""
        while True:
            self._is_another_cli.clear()
            await self._learn_version()
            with suppress(TimeoutError):
                async with asyncio.timeout(VERSION_RETRY if self._seen.trouble else None):
                    await self._is_another_cli.wait()

    async def _learn_version(self) -> None:
        cli = Path(self._tools.claude.cli)
        try:
            async with self._scratch("version") as scratch:
                self._seen.version = await version_of(self._tools.room, cli, scratch)
            self._seen.trouble = None
        except JobError as error:
            self._seen.version, self._seen.trouble = None, str(error)
            logger.warning("the Claude CLI: %s", error)
        except Exception:  # no descriptor is left, say: it must not end the jobs that run
            self._seen.version, self._seen.trouble = None, "a fault of this program; see its log"
            words = "a fault of this program: the Claude CLI's version could not be asked for"
            logger.exception(words, extra=events.FAULT.extra)

    @asynccontextmanager
    async def _scratch(self, name: str) -> AsyncIterator[Path]:
        """Give an empty directory that is gone after. Raises DiskTrouble."""
        try:
            scratch = self._life.work() / name
            scratch.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise DiskTrouble(f"nothing could be made below TEMP_DIR: {error}") from error
        try:
            yield scratch
        finally:
            await to_the_end(remove(scratch))

    def pause_for(self, error: Exception) -> float:
        """Return the seconds that a worker claims nothing after *error*."""
        return verdict(error, in_a_row=1, now=self._queue.now()).pause

    def _host(self) -> tuple[Reason, ...]:
        return of_this_host(self._config, self.outbox, self._queue.now())

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
