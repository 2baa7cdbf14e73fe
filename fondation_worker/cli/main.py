"""`fondation-worker`: its commands and their options."""

import asyncio
import faulthandler
import logging
import os
import signal
import sys
from contextlib import closing
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from fondation_worker import __version__
from fondation_worker.cli.flags import config_option, instance_option, setting_flags
from fondation_worker.config import load, survey
from fondation_worker.errors import BadSettings
from fondation_worker.host import drop_environment
from fondation_worker.installation import KEPT_SECRETS, SECRET_FILES, Instance, is_image
from fondation_worker.redact import Redactor
from fondation_worker.settings import OPERATOR_KEY, SETTINGS
from fondation_worker.systemd import Manager

EXIT_BUG = 1
EXIT_UPGRADED = 75  # EX_TEMPFAIL of sysexits.h: the unit starts us again
EXIT_BAD_SETTINGS = 78  # EX_CONFIG of sysexits.h
HELP_WIDTH = 100  # columns


# The operator's commands, and where they are: imported when they are asked for, because a worker
# needs none of what they show things with.
ELSEWHERE = {
    "jobs": "fondation_worker.cli.jobs",
    "workers": "fondation_worker.cli.workers",
    "health": "fondation_worker.cli.control",
    "pause": "fondation_worker.cli.control",
    "resume": "fondation_worker.cli.control",
    "reload": "fondation_worker.cli.control",
    "doctor": "fondation_worker.cli.doctor",
    "install-claude": "fondation_worker.cli.install_claude",
}


class _Commands(click.Group):
    """The commands of the program, in the order in which one meets them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 click's interface
        """Return the names of all commands."""
        return [*self.commands, *ELSEWHERE]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command, imported now if need be."""
        if cmd_name not in ELSEWHERE:
            return super().get_command(ctx, cmd_name)
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(import_module(ELSEWHERE[cmd_name]), name)
        return command


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": HELP_WIDTH},
)
@click.version_option(__version__, prog_name="fondation-worker")
def main() -> None:
    """Take code-analysis jobs from Convex, run the Claude CLI over a repository, save results.

    `run` is the worker. The others are for its operator: `jobs` and `workers` ask a deployment, and
    need OPERATOR_KEY; `health`, `pause`, `resume` and `reload` ask the worker on this host.
    """


@main.command()
@instance_option
@config_option
@click.option(
    "--stand-by/--no-stand-by",
    default=is_image,
    help="With bad settings stay up: not ready, saying why, until they can be used; what the"
    " container image does.",
)
@setting_flags(SETTINGS)
def run(
    file: Path | None, instance: Instance | None, *, stand_by: bool, **flags: str | None
) -> None:
    """Do jobs until SIGTERM, then drain. Settings: INI file, environment, flags; the last rules.

    Exit status: 0 stopped as asked; 1 a fault of the program, its log has the details; 75 left for
    a restart after an upgrade; 78 bad settings, every fault is listed, nothing was started.
    """
    faulthandler.enable()
    _heed_early()
    said = {name: text for name, text in flags.items() if text}
    sources: dict[str, Any] = {"flags": said, "file": file, "instance": instance}
    again = partial(load, dict(os.environ), **sources)  # what a reload reads, too
    what_there_is = partial(survey, dict(os.environ), **sources) if stand_by else None
    with closing(Manager.of(os.environ)) as manager:
        try:
            drop_environment()  # before anything is imported that reads it, or hands it to a child
            from fondation_worker import daemon  # noqa: PLC0415

            has_left = asyncio.run(daemon.live(again, what_there_is, manager))
        except BadSettings as error:
            _tell_faults(error.faults, instance, manager)
            sys.exit(EXIT_BAD_SETTINGS)
        except Exception:
            from fondation_worker.events import FAULT  # noqa: PLC0415

            words = "a fault of this program ends it"
            logging.getLogger(__name__).critical(words, exc_info=True, extra=FAULT.extra)
            sys.exit(EXIT_BUG)
    sys.exit(EXIT_UPGRADED if has_left else 0)


def _heed_early() -> None:
    """Until there is a loop for signals: a stop is one, and a reload has nothing to read yet."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _tell_faults(faults: list[str], instance: Instance | None, manager: Manager) -> None:
    """Say what is wrong with the settings, where an operator looks, and what to edit."""
    where = ""
    if instance:
        files = ", ".join(name for key, name in SECRET_FILES.items() if key != OPERATOR_KEY.name)
        where = (
            f"edit {' or '.join(map(str, instance.files))}; secrets are files in"
            f" {KEPT_SECRETS}: {files}"
        )
    manager.has_status(f"bad settings: {faults[0]}{'; ' if where else ''}{where}")
    if not manager.has_journal:
        for fault in (*faults, where) if where else faults:
            click.echo(f"fondation-worker: {fault}", err=True)
        return
    from fondation_worker import events, logs  # noqa: PLC0415

    logs.set_up("text", "info", Redactor([]), to_journal=True)
    for fault in faults:
        logging.getLogger(__name__).error("%s", fault, extra=events.BAD_SETTINGS.extra)
    logging.getLogger(__name__).error("nothing was started: %s", where or "mend the settings")
