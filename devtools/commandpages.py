"""The commands of the program as Markdown for its manual page, told by click's own tree."""

import re
import textwrap
from collections.abc import Iterator
from inspect import cleandoc

import click

from devtools.commands import every_command
from fondation_worker.cli.ending import EXIT_FAULT, EXIT_PIPE_CLOSED, STATUSES
from fondation_worker.sources import IN_A_FILE

_SHARED = ("--instance", "--config", "--json", "--help")  # many commands have them
_FLAGS = {setting.name for setting in IN_A_FILE} | {f"{setting.name}_FILE" for setting in IN_A_FILE}
_STATUS = re.compile(r"^ *(\d+) +(.*)$", re.MULTILINE)


def commands() -> Iterator[str]:
    """Yield what there is to say of every command, in the order of --help."""
    for context in every_command():
        command = context.command
        arguments = command.collect_usage_pieces(context)[1:]  # the first one is [OPTIONS]
        yield f"## {' '.join([context.command_path, *arguments])}"
        yield _prose(command.help)
        yield from _own_options(context)
        yield from _elsewhere(context)
        if command.epilog and command.epilog != STATUSES:
            yield "Exit status:"
            yield from _statuses(command.epilog)


def shared() -> Iterator[str]:
    """Yield the options that many commands have, each once."""
    found: dict[str, str] = {}
    for context in every_command():
        for option in _options(context):
            found.setdefault(option.opts[-1], _entry(option, context))
    yield from (found[flag] for flag in _SHARED if flag in found)


def statuses() -> Iterator[str]:
    """Yield the exit statuses that most commands have."""
    more = f"{EXIT_FAULT} a fault of the program\n{EXIT_PIPE_CLOSED} the reader of its output went"
    yield from _statuses(f"{STATUSES}\n{more} away")


def _options(context: click.Context) -> Iterator[click.Option]:
    for parameter in context.command.get_params(context):
        if isinstance(parameter, click.Option) and not parameter.hidden:
            yield parameter


def _own_options(context: click.Context) -> Iterator[str]:
    for option in _options(context):
        if option.name not in _FLAGS and option.opts[-1] not in _SHARED:
            yield _entry(option, context)


def _elsewhere(context: click.Context) -> Iterator[str]:
    """Yield the names of the options that are explained elsewhere."""
    options = [option for option in _options(context) if option.opts[-1] != "--help"]
    shared_ = [option.opts[-1] for option in options if option.opts[-1] in _SHARED]
    settings = [option.opts[-1] for option in options if option.name in _FLAGS]
    for words, flags in (("Shared options", shared_), ("Settings", settings)):
        if flags:
            yield f"{words}: {', '.join(f'`{flag}`' for flag in flags)}."


def _entry(option: click.Option, context: click.Context) -> str:
    """Return *option* as a term and its text."""
    names, text = option.get_help_record(context) or ("", "")
    value = names.removeprefix(", ".join(option.opts)).strip()
    if isinstance(option.type, click.Choice):  # too long for a term
        value, text = "NAME", f"{text} One of {', '.join(map(str, option.type.choices))}."
    flags = ", ".join(f"`{name}`" for name in option.opts)
    return f"{flags} *{value}*\n: {text}" if value else f"{flags}\n: {text}"


def _prose(text: str | None) -> str:
    """Return the paragraphs of a help text; those that click leaves as they are stay so."""
    return "\n\n".join(
        textwrap.indent(part.removeprefix("\b\n"), "    ") if part.startswith("\b\n") else part
        for part in cleandoc(text or "").split("\n\n")
    )


def _statuses(epilog: str) -> Iterator[str]:
    for status, meaning in sorted(_STATUS.findall(epilog), key=lambda found: int(found[0])):
        yield f"`{status}`\n: {meaning}"
