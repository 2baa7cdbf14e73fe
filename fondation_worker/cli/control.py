"""`fondation-worker health`, `pause`, `resume` and `reload`: what a worker on this host is asked.

Nothing slow is imported: a container asks for the health twice a minute.
"""

import functools
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from fondation_worker.cli.ending import EXIT_NOT_DONE, STATUSES, complain, ending
from fondation_worker.cli.flags import (
    config_option,
    instance_option,
    json_option,
    setting_flags,
    taken,
)
from fondation_worker.config import ControlConfig, load_control
from fondation_worker.control_client import RELOAD_LIMIT, Wedged, ask_health, ask_worker
from fondation_worker.errors import NoWorker
from fondation_worker.installation import Instance, digests_of_kept, is_packaged, running_here
from fondation_worker.settings import CONTROL_SETTINGS
from fondation_worker.words import length, plain

FINE = {"healthy", "degraded"}
_OK = 200


def _asking_worker(body: Callable[..., None]) -> Callable[..., None]:
    """Make a command of *body*, which is given where this host's worker is asked."""

    @functools.wraps(body)
    def command(file: Path | None, instance: Instance | None, **options: Any) -> None:
        with ending():
            flags = taken(options, CONTROL_SETTINGS)
            if not (file or flags or instance):
                instance = the_one_here()
            config = load_control(os.environ, flags=flags, file=file, instance=instance)
            body(config, **options)

    return instance_option(config_option(setting_flags(CONTROL_SETTINGS)(json_option(command))))


def the_one_here() -> Instance | None:
    """Return the only worker that the package runs here; raise NoWorker where there are more."""
    if not is_packaged():
        return None
    here = running_here()
    if len(here) > 1:
        raise NoWorker(f"which worker? {', '.join(f'-i {instance.name}' for instance in here)}")
    return here[0] if here else None


@click.command(
    epilog="""\b
Exit status:
   0  healthy; or degraded, which the words explain: it lives, and mends by itself or by you
   1  no worker answers, or it is not well
   2  the command line is wrong
  78  bad settings; every fault is listed
"""
)
@_asking_worker
def health(config: ControlConfig, *, as_json: bool) -> None:
    """Tell how the worker on this host is.

    Whether it can do its work, and if not, why; what waits to be handed in, and how far Convex's
    clock is from this host's. Asks its control socket, and where there is none, HEALTH_ADDRESS. Fit
    for a container's HEALTHCHECK.
    """
    answer = _health(config)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        for line in _in_words(answer):
            click.echo(plain(line))
    if answer.get("status") not in FINE:
        sys.exit(EXIT_NOT_DONE)


def _health(config: ControlConfig) -> Mapping[str, Any]:
    """Return what the worker says of itself; raise NoWorker."""
    try:
        status, answer = ask_worker(config, "GET", "/health")
    except Wedged:
        raise  # who answers at HEALTH_ADDRESS would be another worker, and well
    except NoWorker as error:
        if config.health_address is None or not config.health_address[1]:
            raise
        try:
            status, answer = ask_health(config.health_address)
        except NoWorker as other:
            raise NoWorker(f"{error}; and {other}") from other
    if "status" not in answer:
        raise NoWorker(_refusal(status, answer))
    return answer


def _in_words(answer: Mapping[str, Any]) -> list[str]:
    """Return what there is to say of a worker's health."""
    uptime = answer.get("uptime")
    since = f", up for {length(uptime)}" if isinstance(uptime, int | float) else ""
    head = (
        f"{answer['status']}: {answer.get('workerId', 'a worker')}{since},"
        f" {answer.get('activeJobs', '?')} of {answer.get('maxConcurrentJobs', '?')} slots busy,"
        f" hears of work by {_convex(answer).get('wakeUp', '?')}"
    )
    lines = [head]
    lines += [f"  {reason}" for reason in answer.get("reasons") or ()]
    lines += _beside(answer)
    jobs = answer.get("jobs")
    for job in jobs if isinstance(jobs, list) else ():
        if isinstance(job, dict):
            words = (f"attempt {job.get('attempt')}", job.get("progress"), job.get("repository"))
            lines.append(f"  {job.get('id')}: {', '.join(str(word) for word in words if word)}")
    return lines


def _convex(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what there is to know of Convex."""
    convex = answer.get("convex")
    return convex if isinstance(convex, dict) else {}


def _beside(answer: Mapping[str, Any]) -> list[str]:
    """Return what there is to say of results that wait, and of the clocks."""
    lines = []
    outbox = answer.get("outbox")
    outbox = outbox if isinstance(outbox, dict) else {}
    if waiting := outbox.get("waiting"):
        oldest = outbox.get("oldestSeconds")
        since = f", the oldest for {length(oldest)}" if isinstance(oldest, int | float) else ""
        lines.append(f"  outbox: {waiting} finished results wait to be handed in{since}")
    if refused := outbox.get("refused"):
        lines.append(f"  outbox: {refused} results could not be handed in: STATE_DIR/refused/")
    skew = _convex(answer).get("skewSeconds")
    if isinstance(skew, int | float) and abs(skew) >= 1:
        way = "ahead of" if skew > 0 else "behind"
        lines.append(f"  Convex's clock is {length(abs(skew))} {way} this host's")
    return lines


@click.command(epilog=STATUSES)
@click.option("--reason", metavar="TEXT", help="Why, for /health and whoever looks next.")
@_asking_worker
def pause(config: ControlConfig, *, reason: str | None, as_json: bool) -> None:
    """Let the worker on this host claim nothing more.

    Running jobs go on. A restart keeps that; `resume` ends it.
    """
    answer = _done(config, "/pause", {"reason": reason} if reason else {})
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        click.echo("paused; running jobs go on; `fondation-worker resume` ends it")


@click.command(epilog=STATUSES)
@_asking_worker
def resume(config: ControlConfig, *, as_json: bool) -> None:
    """Let the worker on this host claim again."""
    answer = _done(config, "/resume")
    click.echo(json.dumps(answer, indent=2) if as_json else "resumed")


@click.command(epilog=STATUSES)
@_asking_worker
def reload(config: ControlConfig, *, as_json: bool) -> None:
    """Let the worker on this host read its settings again.

    As SIGHUP does. What was applied and what needs a restart is listed. Of faulty settings nothing
    is applied: status 1, every fault is listed.
    """
    body = {"secrets": digests_of_kept()} if config.instance else {}
    status, answer = ask_worker(config, "POST", "/reload", body, limit=RELOAD_LIMIT)
    faults = answer.get("faults") or ()
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    elif status == _OK:
        said = [
            f"{words}: {', '.join(str(name) for name in answer[key])}"
            for key, words in (("applied", "changed"), ("needsRestart", "needs a restart"))
            if answer.get(key)
        ]
        click.echo(plain("; ".join(said) or "nothing has changed"))
    if status != _OK:
        complain(*(str(fault) for fault in faults or [_refusal(status, answer)]))
        if faults:
            complain("nothing was applied; the worker goes on with the settings it had")
        sys.exit(EXIT_NOT_DONE)


def _done(
    config: ControlConfig, what: str, body: Mapping[str, Any] | None = None
) -> Mapping[str, Any]:
    """Let the worker do *what*; raise NoWorker with its words when it did not."""
    status, answer = ask_worker(config, "POST", what, body or {})
    if status != _OK:
        raise NoWorker(_refusal(status, answer))
    return answer


def _refusal(status: int, answer: Mapping[str, Any]) -> str:
    return str(answer.get("error") or f"the worker answered with status {status}")
