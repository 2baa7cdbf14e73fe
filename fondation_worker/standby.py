"""Standing by: staying up while the settings cannot be used, to say why, until they can.

On a container host an exit only means another start: the log says the same thing for ever, and
nobody is at the port to be asked. What an environment holds cannot change meanwhile, but files can:
secrets, a login, who may write to a volume.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fondation_worker import __version__, events, logs
from fondation_worker.admission import Reason
from fondation_worker.clock import boottime, wall_clock
from fondation_worker.config import Config, Survey
from fondation_worker.errors import BadSettings
from fondation_worker.exposition import Exposition
from fondation_worker.family import FamilyBook
from fondation_worker.history import History
from fondation_worker.host import faults_of_this_host, kept_label, memory, settled_on_this_host
from fondation_worker.installation import hostname
from fondation_worker.metrics import Metrics
from fondation_worker.redact import Redactor
from fondation_worker.settings import SETTINGS
from fondation_worker.signals import Asked
from fondation_worker.snapshot import ClaudeState, ConvexState, Host, OutboxState, Snapshot
from fondation_worker.web.pages import STREAMS, pages_of
from fondation_worker.web.server import web_server

logger = logging.getLogger(__name__)

LOOK = 5.0  # seconds between two looks at whether the settings can be used by now


async def stand_by(
    faults: list[str],
    survey: Callable[[], Survey],
    load: Callable[[], Config],
    asked: Asked,
    *,
    to_journal: bool,
) -> None:
    """Answer over HTTP that no job is taken because of *faults*, until *load* finds none.

    Return then, or when this process is *asked* to end; a reload has it look at once. It answers
    where *survey* says, as far as that can be read.
    """
    known = survey().values
    secrets = [known.get(setting.name) for setting in SETTINGS if setting.secret]
    style, level = known.get("LOG_FORMAT", "text"), known.get("LOG_LEVEL", "info")
    logs.set_up(style, level, Redactor(filter(None, secrets)), to_journal=to_journal)
    waiting = _Waiting(known)
    waiting.because_of(_faults(survey, load) or faults)
    pages = pages_of(waiting.look, History(Path(os.devnull)), Exposition(Metrics(), waiting.look))
    async with web_server(known.get("HEALTH_ADDRESS"), pages, streams=STREAMS):
        while await _look_again(asked):
            if not (faults := await asyncio.to_thread(_faults, survey, load)):
                logger.info("the settings can be used now", extra=events.RESUMED.extra)
                return
            waiting.because_of(faults)


def _faults(survey: Callable[[], Survey], load: Callable[[], Config]) -> list[str]:
    """Return everything that is wrong with the settings, so that it can be mended at once.

    What the start itself would refuse is wrong as well.
    """
    try:
        config = settled_on_this_host(load())
        if not config.worker_id:
            kept_label(config.state_dir)
    except BadSettings as error:
        others = [fault for fault in faults_of_this_host(survey()) if fault not in error.faults]
        return [*error.faults, *others]
    return []


async def _look_again(asked: Asked) -> bool:
    """Wait until it is time for a look; return False when it is time to end."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LOOK):
            await asked.anything.wait()
    asked.anything.clear()
    asked.reload.clear()
    return not asked.ends.has_begun


class _Waiting:
    """What keeps this process from being a worker."""

    def __init__(self, known: Mapping[str, Any]) -> None:
        self._known = known
        self._faults: list[str] = []
        self._began = boottime()
        self._family = FamilyBook()

    def because_of(self, faults: list[str]) -> None:
        """Take note of the *faults* there are now, and say them if they are others than before."""
        if faults == self._faults:
            return
        self._faults = faults
        for fault in faults:
            logger.error("%s", fault, extra=events.BAD_SETTINGS.extra)
        logger.error(
            "no job is taken until %s: looking again every %g s",
            "that is mended" if len(faults) == 1 else "all of that is mended",
            LOOK,
        )

    def look(self) -> Snapshot:
        """Return how it is: a worker that has nothing yet."""
        total, free = memory()
        label = self._known.get("WORKER_ID") or hostname()
        reasons = (Reason(key="settings", words=f"settings: {fault}") for fault in self._faults)
        return Snapshot(
            worker_id=label,
            instance=label,
            version=__version__,
            now=wall_clock(),
            uptime=boottime() - self._began,
            last_job_at=None,
            slots=self._known.get("MAX_CONCURRENT_JOBS", 1),
            lease_time=self._known.get("LEASE_TIME", 0.0),
            job_timeout=self._known.get("JOB_TIMEOUT", 0.0),
            stall_time=self._known.get("STALL_TIME", 0.0),
            running=(),
            paused=None,
            convex=ConvexState(
                is_reachable=False, trouble=None, answered=None, push=False, skew=None
            ),
            claude=ClaudeState(
                version=None, credential="untested", paused=None, limit_resets_at=None
            ),
            host=Host(
                load=os.getloadavg(),
                cores=os.cpu_count() or 1,
                memory=total,
                memory_free=free,
                disks=(),
                disk_floor=self._known.get("DISK_FLOOR", 0),
            ),
            family=self._family.read(),
            outbox=OutboxState(waiting=0, oldest=None, unkept=0, refused=0, elsewhere=0),
            lateness=0.0,
            reasons=tuple(reasons),
        )
