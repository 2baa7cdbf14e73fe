"""What the CLI's tools return, read back.

Names come from Glob, numbers of lines from Grep, text from Read. The wordings are those of the
pinned CLI.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

LINES_OF_A_PAGE = 500


def files_named(globbed: str) -> tuple[list[str], int]:
    """Return the names in a result of Glob, at most a hundred, and how many files there are.

    Where Glob stopped counting, there are more.
    """
    if globbed.startswith("No files found"):
        return [], 0
    names = globbed.splitlines()
    more = re.match(r"\(Showing .*(?:of|more than) (\d+) match", names[-1])
    return (names[:-1], int(more[1])) if more else (names, len(names))


def lines_counted(lines: Iterable[str]) -> dict[str, int]:
    """Return the number of lines of each file in a result of Grep in its count mode."""
    counts = (re.fullmatch(r"(.+):(\d+)", line) for line in lines)
    return {count[1]: int(count[2]) for count in counts if count}


def files_counted(lines: Iterable[str]) -> int:
    """Return in how many files Grep found something, as the last line of its result says."""
    found = (re.match(r"Found \d+ total .* across (\d+) files?\.", line) for line in lines)
    return next((int(match[1]) for match in found if match), 0)


def saved_elsewhere(result: str) -> str | None:
    """Return the file in which the CLI put a result that was too long for the model, or None."""
    saved = re.match(r"<persisted-output>\n.*Full output saved to: (.+)\n", result)
    return saved[1] if saved else None


def pages(files: int) -> Iterator[int]:
    """Yield the first line of each page of a result of Grep that names this many files."""
    end = 2  # an empty line, and one that sums up
    yield from range(1, files + end + 1, LINES_OF_A_PAGE)


def lines_read(result: str) -> list[str]:
    """Return the lines in a result of Read, without their numbers."""
    numbered = (re.fullmatch(r"\s*\d+\t(.*)", line) for line in result.split("\n"))
    lines = [line[1].removesuffix("\r") for line in numbered if line]
    # The newline that ends a file comes as one more, empty, line.
    return lines[:-1] if lines and not lines[-1] else lines
