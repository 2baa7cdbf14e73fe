"""Flags for settings: every command that reads settings has them in the same form."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from fondation_worker.installation import Instance
from fondation_worker.settings import Setting

_Command = TypeVar("_Command", bound=Callable[..., Any])

config_option = click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="INI file with a section [worker]; the environment and flags rule over it.",
)


class _InstanceName(click.ParamType[Instance]):
    name = "instance"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Instance:
        """Return the instance of that name."""
        try:
            return value if isinstance(value, Instance) else Instance(str(value))
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)


instance_option = click.option(
    "-i",
    "--instance",
    type=_InstanceName(),
    metavar="NAME",
    help="Worker NAME of the package, fondation-worker@NAME: its settings and directories.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def setting_flags(settings: Iterable[Setting]) -> Callable[[_Command], _Command]:
    """Give a command a flag for each of *settings*; of a secret, for its file.

    Arguments are public, files are not. The command is given what was said by the settings' NAMES.
    """

    def add(command: _Command) -> _Command:
        for setting in reversed(tuple(settings)):
            command = _flag(setting)(command)
        return command

    return add


def _flag(setting: Setting) -> Callable[[_Command], _Command]:
    if setting.secret:
        text = f"file that holds: {setting.help}"
        name = f"{setting.name}_FILE"
        return click.option(f"--{setting.flag}-file", name, metavar="FILE", help=text)
    unset = f" [{setting.default}]" if setting.default else ""
    text = f"{setting.help}{unset}; for example {setting.example}"
    return click.option(f"--{setting.flag}", setting.name, metavar="VALUE", help=text)


def taken(options: dict[str, Any], settings: Iterable[Setting]) -> Mapping[str, str]:
    """Take the flags of *settings* out of *options*."""
    names = [f"{s.name}_FILE" if s.secret else s.name for s in settings]
    flags = {name: options.pop(name) for name in names}
    return {name: value for name, value in flags.items() if value}
