"""`fondation-worker`: its commands and their options."""

import asyncio
import faulthandler
import logging
import os
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

import click

from fondation_worker import __version__
from fondation_worker.cli.flags import config_option, setting_flags
from fondation_worker.config import load, secrets_of
from fondation_worker.errors import BadSettings
from fondation_worker.host import drop_environment
from fondation_worker.redact import Redactor
from fondation_worker.settings import SETTINGS

EXIT_BUG = 1
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
        command: click.Command = getattr(import_module(ELSEWHERE[cmd_name]), cmd_name)
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
@config_option
@setting_flags(SETTINGS)
def run(file: Path | None, **flags: str | None) -> None:
    """Do jobs until SIGTERM, then drain. Settings: INI file, environment, flags; the last rules.

    Exit status: 0 stopped as asked; 1 a fault of the program, its log has the details; 78 bad
    settings, every fault is listed, nothing was started.
    """
    faulthandler.enable()
    try:
        said = {name: text for name, text in flags.items() if text}
        again = partial(load, dict(os.environ), flags=said, file=file)  # what a reload reads
        config = again()
        drop_environment()  # before anything is imported that reads it, or hands it to a child
        from fondation_worker import daemon, logs  # noqa: PLC0415

        logs.set_up(config.log_format, config.log_level, Redactor(secrets_of(config)))
        asyncio.run(daemon.serve(config, again))
    except BadSettings as error:
        for fault in error.faults:
            click.echo(f"fondation-worker: {fault}", err=True)
        sys.exit(EXIT_BAD_SETTINGS)
    except Exception:
        logging.getLogger(__name__).critical("a fault of this program ends it", exc_info=True)
        sys.exit(EXIT_BUG)
