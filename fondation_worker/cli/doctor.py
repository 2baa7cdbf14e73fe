"""`fondation-worker doctor`: what a worker here would need, looked at, and what to do about it."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from fondation_worker.cli.control import the_one_here
from fondation_worker.cli.ending import ending
from fondation_worker.cli.flags import (
    config_option,
    instance_option,
    json_option,
    setting_flags,
    taken,
)
from fondation_worker.config import survey
from fondation_worker.doctor.findings import Finding, exit_status
from fondation_worker.errors import NoWorker
from fondation_worker.host import drop_environment
from fondation_worker.installation import Instance, is_packaged
from fondation_worker.privileges import become, service_user
from fondation_worker.redact import Redactor
from fondation_worker.settings import OPERATOR_KEY, SETTINGS

FIRST = Instance("1")
_READ = (*SETTINGS, OPERATOR_KEY)


@click.command(
    epilog="""\b
Exit status:
   0  all is well
   1  there are warnings
   2  there are errors; or the command line is wrong
"""
)
@instance_option
@config_option
@setting_flags(_READ)
@json_option
def doctor(file: Path | None, instance: Instance | None, *, as_json: bool, **options: Any) -> None:
    """Look at everything that a worker needs, and say what to do about what is not well.

    Configuration, Convex, keys, functions, clocks; the model's credential; git and the Claude CLI,
    which runs over a hostile repository with a scripted model: no token is spent, and no secret is
    near it. Directories, disk, the unit and its sandbox, results that wait. Nothing is changed, and
    no job is claimed. Started by root it takes the rights of the worker's user, where there is one.
    """
    with ending():
        # All of it before root's rights are given up: their new owner may not be able to read it.
        import asyncio

        from fondation_worker.cli.findings import show
        from fondation_worker.doctor.checkup import check_up
        from fondation_worker.doctor.known import known_from
        from fondation_worker.doctor.units import ask_systemd, environment_of

        flags = taken(options, _READ)
        if is_packaged() and not (file or flags or instance):
            instance = _the_one_here()
        units = ask_systemd(instance.unit if instance else None)
        os.environ.update(environment_of(units))  # what the unit's worker has rules over ours
        found = survey(os.environ, flags=flags, file=file, instance=instance)
        known = known_from(found, instance)
        _give_up_rights()
        findings = [
            _without_secrets(finding, Redactor(known.secrets))
            for finding in asyncio.run(check_up(known, units))
        ]
        show(findings, instance, as_json=as_json)
        sys.exit(exit_status(findings))


def _the_one_here() -> Instance:
    """Return the only packaged worker that runs, or the first where none does."""
    try:
        return the_one_here() or FIRST
    except NoWorker as several:  # status 1 stands for warnings
        raise click.UsageError(str(several)) from several


def _give_up_rights() -> None:
    """Be the worker's user from here on, if this is root; and drop the environment, as a worker."""
    user = service_user() if os.geteuid() == 0 else None
    if user:
        become(user)
    drop_environment()


def _without_secrets(finding: Finding, redact: Redactor) -> Finding:
    advice = redact(finding.advice) if finding.advice else None
    return Finding(
        name=finding.name, level=finding.level, words=redact(finding.words), advice=advice
    )
