"""Reload: the settings read again while the worker runs; what can change does, the rest is told."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from fondation_worker import events
from fondation_worker.config import Config
from fondation_worker.errors import BadSettings
from fondation_worker.host import settled_on_this_host
from fondation_worker.settings import SETTINGS

logger = logging.getLogger(__name__)

_AFTER_RESTART = {setting.name for setting in SETTINGS if setting.restart}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    """What a reload came to, in names of settings; with a fault nothing has changed."""

    applied: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    def to_document(self) -> dict[str, list[str]]:
        """Return the JSON answer of the control socket."""
        return {
            "applied": list(self.applied),
            "needsRestart": list(self.needs_restart),
            "faults": list(self.faults),
        }


class Reloader:
    """Reads settings again, as often as it is asked to.

    *running* is what the program was started with, *load* reads the same sources again and raises
    BadSettings, *apply* is handed what is to hold from now on.
    """

    def __init__(
        self, running: Config, load: Callable[[], Config], apply: Callable[[Config], None]
    ) -> None:
        self._running = running
        self._load = load
        self._apply = apply

    def reload(self, changed_secrets: tuple[str, ...] = ()) -> Reloaded:
        """Read the settings, apply what can change; say in the log what did, or what is wrong.

        *changed_secrets* are named with what needs a restart.
        """
        try:
            read = self._load()
            wanted, reloaded = merged(self._running, read)
            waiting = (*reloaded.needs_restart, *changed_secrets)
            reloaded = replace(reloaded, needs_restart=waiting)
            settled = settled_on_this_host(wanted)
        except BadSettings as error:
            for fault in error.faults:
                logger.error("reload: %s", fault)  # noqa: TRY400 the words say all
            words = "reload: the settings stay as they were"
            logger.error(words, extra=events.RELOAD_REFUSED.extra)  # noqa: TRY400
            return Reloaded(faults=tuple(error.faults))
        self._running = wanted
        if reloaded.applied:
            self._apply(settled)
        changed = ", ".join(reloaded.applied) or "nothing"
        logger.info("reloaded; changed: %s", changed, extra=events.RELOADED.extra)
        if reloaded.needs_restart:
            names = ", ".join(reloaded.needs_restart)
            words = "reload: %s: a change takes effect with a restart only"
            logger.warning(words, names, extra=events.RESTART_NEEDED.extra)
        return reloaded


def merged(running: Config, read: Config) -> tuple[Config, Reloaded]:
    """Return *running* with what of *read* needs no restart, and the names of what differs."""
    changes, applied, waiting = {}, [], []
    for field in fields(Config):
        before, after = getattr(running, field.name), getattr(read, field.name)
        if before == after:
            continue
        name = after.kind if field.name == "credential" else field.name.upper()
        if name in _AFTER_RESTART:
            waiting.append(name)
        else:
            changes[field.name] = after
            applied.append(name)
    told = Reloaded(applied=tuple(sorted(applied)), needs_restart=tuple(sorted(waiting)))
    return replace(running, **changes), told
