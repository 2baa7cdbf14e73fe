"""The Markdown that tells what was found in a repository, and nothing that was not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import PurePosixPath

from tests.fakes.messages_api.languages import defined_names, language_of

DIRECTORIES = 20
KINDS = 4
NAMES = 12
FIRST_LINES = 12
WIDTH = 120

CLOSING = """\
---

Written by a script, without a model: every number, name and quotation above comes from what the
CLI's tools returned."""

NO_PROSE = re.compile(r"[#<>|!:\s]|\[!|[*+-] |\.\. |[=*_~^`-]{2,}[^ *_]*$")
"""How a block starts that is no paragraph: badges, HTML, a list, a table, code, a rule."""

UNDERLINE = re.compile(r"[=~-]{3,}\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """The first lines of a file; none when it could not be read."""

    path: str
    lines: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the tools returned."""

    total: int
    """How many files there are at least."""
    named: Sequence[str]
    """Those whose names are known."""
    lines: Mapping[str, int]
    """The number of lines of those that hold text."""
    complete: bool
    """Whether every file that holds text is among them."""
    readme: Excerpt | None
    largest: Sequence[Excerpt]


def overview(findings: Findings) -> str:
    """Return the overview as Markdown, with a title."""
    parts = [*_introduction(findings), *_layout(findings), *_largest(findings), CLOSING]
    return "\n\n".join(parts) + "\n"


def _introduction(findings: Findings) -> Iterator[str]:
    heading = _heading(findings.readme.lines) if findings.readme else None
    yield f"# {heading}: an overview" if heading else "# Overview of the repository"
    paragraph = _first_paragraph(findings.readme.lines) if findings.readme else []
    if findings.readme and paragraph:
        yield "\n".join(f"> {line}" for line in paragraph)
        yield f"That is how {_code(findings.readme.path)} begins."
    elif not findings.readme and findings.complete and findings.total:
        yield "The repository has no README at its top."
    yield _size(findings)


def _size(findings: Findings) -> str:
    if not findings.total:
        return "The repository holds no files."
    lines = _number(sum(findings.lines.values()), "line")
    counted = f"{len(findings.lines):,} of them with text, {lines}"
    if findings.complete:
        return f"{_number(findings.total, 'file')}, {counted}."
    return (
        f"At least {findings.total:,} files. This page is about {len(findings.named):,}, {counted}:"
        " the list was longer than what was read of it."
    )


def _layout(findings: Findings) -> Iterator[str]:
    if not findings.named:
        return
    yield "## Layout"
    directories: dict[str, Counter[str]] = {}
    for path in findings.named:
        directories.setdefault(_directory(path), Counter())[_kind(path)] += 1
    shown = sorted(directories)[:DIRECTORIES]
    rows = [f"- {_code(name)}: {_kinds(directories[name])}" for name in shown]
    if len(directories) > len(shown):
        rows.append(f"- and {len(directories) - len(shown):,} directories more")
    if findings.complete and len(findings.named) < findings.total:
        unnamed = _number(findings.total - len(findings.named), "file")
        rows.append(f"- {unnamed} without text, which the tools counted but did not name")
    yield "\n".join(rows)


def _directory(path: str) -> str:
    """Return the directory of a file, two levels deep at most."""
    parents = PurePosixPath(path).parts[:-1][:2]
    return "/".join(parents) + "/" if parents else "./"


def _kind(path: str) -> str:
    suffix = PurePosixPath(path).suffix
    return _code(suffix) if suffix else "without extension"


def _kinds(kinds: Counter[str]) -> str:
    parts = [f"{count} {kind}" for kind, count in kinds.most_common(KINDS)]
    if others := kinds.total() - sum(count for _, count in kinds.most_common(KINDS)):
        parts.append(f"{others} of other kinds")
    return f"{_number(kinds.total(), 'file')} ({', '.join(parts)})"


def _largest(findings: Findings) -> Iterator[str]:
    if not findings.largest:
        return
    source = language_of(findings.largest[0].path) is not None
    yield "## The largest sources" if source else "## The largest texts"
    for excerpt in findings.largest:
        yield f"### {_code(excerpt.path)}, {_number(findings.lines[excerpt.path], 'line')}"
        yield from _described(excerpt, findings.lines[excerpt.path])


def _described(excerpt: Excerpt, lines: int) -> Iterator[str]:
    if not excerpt.lines:
        yield "The file could not be read."
        return
    language = language_of(excerpt.path)
    names = defined_names(language, excerpt.lines) if language else []
    if names:
        part = "" if len(excerpt.lines) >= lines else f" in its first {len(excerpt.lines)} lines"
        more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
        yield f"Defines{part}: {', '.join(map(_code, names[:NAMES]))}{more}."
    yield _quoted(excerpt.lines[:FIRST_LINES], language.name if language else "")


def _heading(lines: Sequence[str]) -> str | None:
    """Return the first heading, `# like this` or underlined."""
    for block in _blocks(lines):
        if marked := re.fullmatch(r"#\s+(.+?)[\s#]*", block[0]):
            return marked[1]
        for line, below in pairwise(block[:3]):
            if below.startswith("===") and not UNDERLINE.fullmatch(line):
                return line.strip()
    return None


def _first_paragraph(lines: Sequence[str]) -> list[str]:
    """Return the lines of the first paragraph of prose, as they stand."""
    for block in _blocks(lines):
        prose = _without_heading(block)
        if prose and not NO_PROSE.match(prose[0]):
            return prose
    return []


def _blocks(lines: Sequence[str]) -> list[list[str]]:
    """Return what stands between empty lines."""
    return [
        list(group) for filled, group in groupby(lines, lambda line: bool(line.strip())) if filled
    ]


def _without_heading(block: list[str]) -> list[str]:
    if block[0].startswith("#"):
        return block[1:]
    return block[2:] if len(block) > 1 and UNDERLINE.fullmatch(block[1]) else block


def _quoted(lines: Sequence[str], language: str) -> str:
    """Return a fenced block: no line in it can end it, long lines are cut."""
    cut = [line if len(line) <= WIDTH else f"{line[:WIDTH]}…" for line in lines]
    longest = max(map(len, re.findall(r"`+", "\n".join(cut))), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}{language}", *cut, fence])


def _code(text: str) -> str:
    """Return a code span that holds any name."""
    if "`" not in text:
        return f"`{text}`"
    fence = "`" * (max(map(len, re.findall(r"`+", text))) + 1)
    return f"{fence} {text} {fence}"


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
