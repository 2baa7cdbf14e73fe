"""What people see: tables, fields and log lines, with colours at a terminal and none elsewhere.

Everything that is shown went through `words.plain`. Piped, a row is one line, never cut or broken.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from fondation_worker.words import plain

NARROWEST = 8  # cells that a column which gives way keeps
GAP = "  "
COLOURS = {
    **dict.fromkeys(("completed", "healthy", "ready", "working", "idle", "ok"), "green"),
    **dict.fromkeys(("dead", "failed", "error", "stopped", "silent", "down"), "red"),
    **dict.fromkeys(("canceled", "degraded", "paused", "warning"), "yellow"),
    **dict.fromkeys(("claimed", "cloning", "analyzing", "gathering", "running"), "cyan"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table; one that `gives` is cut with … where the terminal is too narrow."""

    title: str
    gives: bool = False


class _Screen(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to `ending`; rich would end the program with a status of its own."""
        raise BrokenPipeError


def screen(*, stderr: bool = False) -> Console:
    """Give standard output, or standard error; NO_COLOR and a pipe are heeded."""
    return _Screen(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


def show_json(document: Any) -> None:
    """Print *document* for a program: ASCII only, so that no text in it plays with a terminal."""
    click.echo(json.dumps(document, indent=2))


def show_json_line(document: Any) -> None:
    """Print *document* on one line, for a program that reads line by line."""
    click.echo(json.dumps(document))


def show_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print *rows* below the titles of *columns*."""
    console = screen()
    texts = [[plain(cell) for cell in row] for row in rows]
    widths = fitting(columns, texts, console.width if console.is_terminal else None)
    _say(console, _row([column.title for column in columns], widths, style="bold"))
    for row in texts:
        _say(console, _row(row, widths))


def fitting(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None
) -> list[int]:
    """Return the columns' widths in cells: as wide as they are, or less for those that give."""
    natural = [
        max([cell_len(column.title), *(cell_len(row[i]) for row in rows)])
        for i, column in enumerate(columns)
    ]
    if width is None:
        return natural
    excess = sum(natural) + len(GAP) * (len(columns) - 1) - width
    widths = list(natural)
    while excess > 0:
        widest = max(
            (i for i, column in enumerate(columns) if column.gives and widths[i] > NARROWEST),
            key=lambda i: widths[i],
            default=None,
        )
        if widest is None:  # the terminal breaks the line then: nothing more can be left out
            break
        widths[widest] -= 1
        excess -= 1
    return widths


def _row(cells: Sequence[str], widths: Sequence[int], style: str = "") -> Text:
    line = Text(style=style)
    for cell, width in zip(cells, widths, strict=True):
        shown = cell if cell_len(cell) <= width else set_cell_size(cell, width - 1) + "…"
        line.append(shown, style=COLOURS.get(cell, ""))
        line.append(" " * (width - cell_len(shown)) + GAP)
    line.rstrip()
    return line


def show_fields(fields: Sequence[tuple[str, str | None]]) -> None:
    """Print named values below each other; those that are None are left out, long ones indented."""
    console = screen()
    known = [(name, value) for name, value in fields if value is not None]
    width = max((len(name) for name, _ in known), default=0)
    for name, value in known:
        lines = plain(value, lines=True).splitlines() or [""]
        line = Text(f"{name:<{width}}{GAP}", style="bold")
        line.append(lines[0], style=COLOURS.get(lines[0], "not bold"))
        _say(console, line)
        for more in lines[1:]:
            _say(console, Text(" " * (width + len(GAP)) + more))


def show_log_line(time: str, level: str, text: str) -> None:
    """Print one line of a log; what goes on below it is indented."""
    lines = plain(text, lines=True).splitlines() or [""]
    line = Text(f"{time}{GAP}", style="dim")
    line.append(f"{plain(level):<7}", style=COLOURS.get(level, ""))
    line.append(lines[0], style="not dim")
    console = screen()
    _say(console, line)
    for more in lines[1:]:
        _say(console, Text(" " * (len(time) + len(GAP) + 7) + more))


def show_finding(level: str, name: str, words: str) -> None:
    """Print one line of a report: how bad, what about, and what there is."""
    line = Text(f"{level:<7}{GAP}", style=COLOURS.get(level, ""))
    line.append(f"{name}{GAP}", style="bold")
    line.append(plain(words), style="not bold")
    _say(screen(), line)


def say(text: str) -> None:
    """Print a line of ours."""
    _say(screen(), Text(plain(text)))


def remark(text: str) -> None:
    """Say a line beside the output, on standard error."""
    _say(screen(stderr=True), Text(plain(text)))


def _say(console: Console, line: Text) -> None:
    line.rstrip()
    console.print(line, soft_wrap=True)
    console.file.flush()  # who reads a pipe sees each line when it is there
