"""The daemon: one worker process from its start to its end."""

import asyncio
import encodings.idna  # noqa: F401 host names need it; nothing is to be loaded once a worker is ready
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial

from fondation_worker import __version__, events, logs
from fondation_worker.assembly import Process
from fondation_worker.caretaker import cared_for
from fondation_worker.config import CONTROL_NAME, Config, Survey, secrets_of
from fondation_worker.convex import connect
from fondation_worker.errors import BadSettings
from fondation_worker.exposition import Exposition
from fondation_worker.gate import keep_testing
from fondation_worker.host import kept_label, settled_on_this_host
from fondation_worker.installation import differing, is_image
from fondation_worker.leftovers import MARK
from fondation_worker.life import lived
from fondation_worker.metrics import Metrics
from fondation_worker.presence import present
from fondation_worker.redact import Redactor
from fondation_worker.reload import Reloaded, Reloader
from fondation_worker.signals import Asked, heeded
from fondation_worker.standby import stand_by
from fondation_worker.statusline import in_one_line
from fondation_worker.systemd import Manager
from fondation_worker.web.control import Controls, control_server
from fondation_worker.web.pages import STREAMS, pages_of
from fondation_worker.web.server import web_server

logger = logging.getLogger(__name__)

_Reload = Callable[[Mapping[str, str]], Reloaded]


async def live(
    load: Callable[[], Config], survey: Callable[[], Survey] | None, manager: Manager
) -> bool:
    """Be a worker with the settings that *load* returns, until it is asked to end.

    With bad ones it stands by, answering where *survey* says; without a *survey* BadSettings is
    raised, and nothing was started. Returns whether it left for a restart after an upgrade.
    """
    asked = heeded()
    while True:
        try:
            config = load()
            redact = Redactor(secrets_of(config))
            logs.set_up(config.log_format, config.log_level, redact, to_journal=manager.has_journal)
            await serve(config, load, manager, asked)
        except BadSettings as error:
            if survey is None:
                raise
            await stand_by(error.faults, survey, load, asked, to_journal=manager.has_journal)
        if asked.ends.has_begun:
            logger.info("fondation-worker has stopped", extra=events.STOPPED.extra)
            return asked.ends.leave.is_set()


async def serve(config: Config, load: Callable[[], Config], manager: Manager, asked: Asked) -> None:
    """Do jobs until *asked* to end; then drain, and return; asked again, end the drain.

    A reload reads the settings again, by *load*. After an upgrade nothing more is claimed, and it
    returns when running jobs have ended. *manager* is kept told. Raises BadSettings for what only
    this host can tell of the settings; nothing was started then.
    """
    loaded, config = config, settled_on_this_host(config)
    worker_id = config.worker_id or kept_label(config.state_dir)
    instance = f"{worker_id}-{secrets.token_hex(4)}"
    ends, metrics = asked.ends, Metrics()
    logs.of(instance)
    words = "fondation-worker %s starts as %s"
    logger.info(words, __version__, instance, extra=events.STARTED.extra)
    if is_image() and os.geteuid() == 0:
        words = "this container runs as root, and so do its jobs' runs: leave --user 0 out"
        logger.warning(words)
    if config.key_travels_in_the_open():
        logger.warning("CONVEX_URL is http: whoever is on the way can read this worker's key")
    manager.has_status("starting: clearing what an earlier life has left")
    os.environ[MARK] = instance  # for git and the CLI: by it a later life finds what they left
    async with (
        lived(config.state_dir, config.temp_dir, instance) as life,
        connect(config.convex_url, config.convex_functions, metrics.called) as convex,
    ):
        process = Process(
            config, convex, worker_id, life, ends, metrics=metrics, to_journal=manager.has_journal
        )
        await asyncio.to_thread(process.history.load)
        await process.outbox.adopt()
        reloader = Reloader(loaded, load, process.change)
        reload = partial(_reload, reloader, manager, process)
        async with (
            _asked(config, process, reload, manager),
            present(process.tell, process.lookout.standing),
            cared_for(
                manager,
                ends,
                look=process.lookout.situation,
                changed=process.worker.changed,
                contact=convex.first_contact.wait,
            ),
            _beside(process, reload, asked),
        ):
            await process.worker.work()


@asynccontextmanager
async def _asked(
    config: Config,
    process: Process,
    reload: _Reload,
    manager: Manager,
) -> AsyncIterator[None]:
    """Answer over HTTP while the body runs, on the sockets that *manager* handed over, or ours."""
    controls = Controls(
        look=process.lookout.look,
        pause=process.pause.begin,
        resume=process.pause.end,
        reload=lambda secrets: reload(secrets).to_document(),
    )
    ports = manager.of_family((socket.AF_INET, socket.AF_INET6))
    files = manager.of_family((socket.AF_UNIX,))
    fallback = config.state_dir / CONTROL_NAME
    look = process.lookout.look
    pages = pages_of(look, process.history, Exposition(process.metrics, look))
    async with (
        web_server(config.health_address, pages, ports, streams=STREAMS) as process.lookout.no_port,
        control_server(
            config.control_socket,
            controls,
            {path: page for path, page in pages.items() if path not in STREAMS},
            fallback=fallback,
            inherited=files,
        ),
    ):
        yield


def _reload(
    reloader: Reloader, manager: Manager, process: Process, secrets: Mapping[str, str]
) -> Reloaded:
    """Read the settings again, and keep *manager* told meanwhile.

    It hands secrets over at a start only: what is kept otherwise by now (*secrets*, by their
    digests) needs a restart.
    """
    changed = differing(secrets, manager.credentials) if manager.credentials else ()
    manager.reloads()
    try:
        return reloader.reload(changed)
    finally:
        manager.is_ready(in_one_line(process.lookout.situation()))


@asynccontextmanager
async def _beside(
    process: Process,
    reload: _Reload,
    asked: Asked,
) -> AsyncIterator[None]:
    """Do what goes on beside the work while the body runs."""

    async def heed_upgrade() -> None:
        await asked.ends.leave.wait()
        process.listener.retire()

    async def heed_hangup() -> None:
        while True:
            await asked.reload.wait()
            asked.reload.clear()
            try:
                reload({})
            except Exception:  # it must not end the jobs that run
                words = "a fault of this program: the reload came to nothing"
                logger.exception(words, extra=events.FAULT.extra)

    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(process.listener.run()),
            group.create_task(process.outbox.keep_offering()),
            group.create_task(keep_testing(process.gate, process.probe, process.pause_for)),
            group.create_task(process.keep_learning()),
            group.create_task(process.ticks.keep(process.metrics.ticked)),
            group.create_task(heed_hangup()),
            group.create_task(heed_upgrade()),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
