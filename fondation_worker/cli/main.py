"""`fondation-worker`: its commands and their options."""

import asyncio
import faulthandler
import logging
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from fondation_worker import __version__
from fondation_worker.config import load, secrets_of
from fondation_worker.errors import BadSettings
from fondation_worker.host import drop_environment
from fondation_worker.redact import Redactor
from fondation_worker.settings import SETTINGS

EXIT_BUG = 1
EXIT_BAD_SETTINGS = 78  # EX_CONFIG of sysexits.h


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fondation-worker")
def main() -> None:
    """Take code-analysis jobs from Convex, run the Claude CLI over a repository, save results."""


def _setting_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give *command* a flag for every setting that is no secret: arguments are public."""
    for setting in reversed(SETTINGS):
        if not setting.secret:
            unset = f" [{setting.default}]" if setting.default else ""
            text = f"{setting.help}{unset}; for example {setting.example}"
            command = click.option(f"--{setting.flag}", setting.name, metavar="VALUE", help=text)(
                command
            )
        else:
            file = f"{setting.name}_FILE"
            text = f"file that holds: {setting.help}"
            command = click.option(f"--{setting.flag}-file", file, metavar="FILE", help=text)(
                command
            )
    return command


@main.command()
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="INI file with a section [worker]; the environment and these flags rule over it.",
)
@_setting_flags
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
