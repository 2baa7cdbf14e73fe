"""Writes docs/commands.md: what `--help` says of every operator's command (`./dev format`)."""

from collections.abc import Iterator
from pathlib import Path

import click

from fondation_worker.cli.main import ELSEWHERE, HELP_WIDTH, main

FILE = Path(__file__).parents[1] / "docs" / "commands.md"

HEAD = """\
# The operator's commands

What `--help` says, for reading in one piece; `./dev format` writes this file anew. README shows
how they are used ([Operating](../README.md#operating)); `fondation-worker run`, the worker itself,
and its settings stand there too.

- **Settings** come from an INI file (`--config FILE`, the worker's own will do), the environment
  and flags; the last rules. `jobs` and `workers` need CONVEX_URL, OPERATOR_KEY (or
  OPERATOR_KEY_FILE) and, where the functions are in a folder, CONVEX_FUNCTIONS. `health`, `pause`,
  `resume` and `reload` need CONTROL_SOCKET or STATE_DIR where these are not at their defaults, and
  the worker's own user or root.
- **Output** is for people: a table, colours at a terminal (not with NO_COLOR), one line each when
  piped. With `--json` it is one JSON document (`jobs logs`: one object on each line), in ASCII,
  named and measured as in [protocol.md](protocol.md): times are milliseconds since the epoch.
  Everything said beside the output (progress, hints, errors) goes to standard error.
- **Text from jobs** is foreign: control characters in it are written out (`\\x1b`), so that it
  cannot play with a terminal.
- **Exit status** stands below each command. 70 means a fault of the program, 141 that the reader of
  its output went away.

| command | `--json` prints |
|---|---|
| `jobs enqueue` | `{jobId, duplicate}`; with `--wait` the job, once it has ended |
| `jobs list` | `{jobs: [job]}` |
| `jobs show` | the job |
| `jobs logs` | lines of `{seq, attempt, at, level, msg}` |
| `jobs cancel` | `{jobId, status}`, or `{jobId, already}` |
| `jobs retry` | `{jobId, status}`; with `--wait` the job, once it has ended |
| `jobs docs` | `{files: [{file, slug, title, kind, bytes}]}` |
| `workers` | `{workers: [{…, silent}], now}` |
| `health` | what the worker's `/health` answers |
| `pause`, `resume` | `{paused, reason}` |
| `reload` | `{applied, needsRestart, faults}`, names of settings and secrets, and words |
| `doctor` | `{version, instance, errors, warnings, findings: [{name, level, words, advice}]}` |
"""


def every_command() -> Iterator[click.Context]:
    """Yield a context for every command of the program, in the order of --help."""
    top = click.Context(main, info_name="fondation-worker", **main.context_settings)
    yield from _below(main, top)


def text() -> str:
    """Return what the file should hold."""
    return "\n".join(
        [HEAD, *(_page(each) for each in every_command() if _top_of(each) in ELSEWHERE)]
    )


def _below(group: click.Group, context: click.Context) -> Iterator[click.Context]:
    """Yield a context for each command of *group*, and after a group for those in it."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        inner = click.Context(command, info_name=name, parent=context, terminal_width=HELP_WIDTH)
        yield inner
        if isinstance(command, click.Group):
            yield from _below(command, inner)


def _top_of(context: click.Context) -> str:
    return context.command_path.split()[1]


def _page(context: click.Context) -> str:
    """Return a section with what --help says."""
    help_ = "\n".join(line.rstrip() for line in context.command.get_help(context).splitlines())
    return f"## {context.command_path}\n```\n{help_}\n```\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
