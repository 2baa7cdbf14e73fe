"""From a command's options to the deployment: what all commands about jobs share.

Nothing slow is imported before a command runs: completion reads the options at every press of Tab.
"""

import functools
import os
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fondation_worker.cli.ending import ending
from fondation_worker.cli.flags import config_option, instance_option, setting_flags, taken
from fondation_worker.config import load_operator
from fondation_worker.installation import Instance
from fondation_worker.settings import OPERATOR_SETTINGS
from fondation_worker.words import duration, point_in_time

if TYPE_CHECKING:
    from fondation_worker.operator import Operator


def asking_convex(body: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make a command of *body*, which is given the deployment's Operator first.

    Settings come from a file, the environment and flags; whatever goes wrong ends in words and an
    exit status.
    """

    @functools.wraps(body)
    def command(file: Path | None, instance: Instance | None, **options: Any) -> None:
        with ending():
            import asyncio

            from fondation_worker.operator import operating

            flags = taken(options, OPERATOR_SETTINGS)
            config = load_operator(os.environ, flags=flags, file=file, instance=instance)

            async def ask() -> None:
                async with operating(config) as operator:
                    await body(operator, **options)

            asyncio.run(ask())

    return instance_option(config_option(setting_flags(OPERATOR_SETTINGS)(command)))


def milliseconds(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """Return the milliseconds of a duration with its unit, for an option."""
    try:
        return None if value is None else duration(value) * 1000
    except ValueError as error:
        raise click.BadParameter(f"{value!r} {error}") from None


def checked_time(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Return *value* if it is a time, or a duration from now; what that comes to: `reckoned`."""
    try:
        if value is not None:
            point_in_time(value, 0)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} {error}") from None
    return value


async def reckoned(operator: "Operator", time_: str | None) -> float | None:
    """Return the milliseconds since the epoch of a checked time; from now is by Convex's clock."""
    if time_ is None:
        return None
    at = point_in_time(time_, 0)
    from_now = at != point_in_time(time_, 1)
    return float(round(at + (await operator.workers()).now if from_now else at))


def now() -> float:
    """Return this host's time in milliseconds since the epoch: only people's words use it."""
    return time.time() * 1000
