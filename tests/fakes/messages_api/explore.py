"""How the demo's script looks at a repository, through the CLI's tools.

It lists the files, then reads the README and the largest sources. Whatever it decides, it decides
from what the tools returned so far; it remembers nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.fakes.messages_api import listing
from tests.fakes.messages_api.conversation import Conversation, Result
from tests.fakes.messages_api.languages import language_of
from tests.fakes.messages_api.overview import Excerpt, Findings, overview
from tests.fakes.messages_api.script import Call, Turn

LARGEST = 3
LINES_OF_A_FILE = 400
MOST_PAGES = 10

# Glob names at most a hundred files, and tells how many there are. Grep, counting the starts of
# lines, names every file that holds text with its number of lines: the only size that the three
# tools give. With `*` it counts also the files that a `.gitignore` names, as Glob does.
LIST = Call(tool="Glob", input={"pattern": "!.git/**"})
COUNT = Call(
    tool="Grep",
    input={"pattern": "^", "output_mode": "count", "glob": "* !.git/**", "head_limit": 0},
)


def explore(conversation: Conversation) -> Turn:
    """Return the next answer in a conversation that explores a repository."""
    if not conversation.results:
        return Turn(text="I list the files and count their lines.", calls=(LIST, COUNT))
    listed, counted, *read = conversation.results
    named, total = listing.files_named(listed.text)
    saved = listing.saved_elsewhere(counted.text)
    pages = [result for result in read if result.input["file_path"] == saved]
    if saved and not pages:
        return Turn(text="The list is long; I read it in pages.", calls=_pages(saved, total))
    counts = _lines(pages) if saved else counted.text.splitlines()
    lines = listing.lines_counted(counts)
    readme = _readme(lines)
    largest = _largest({path: lines[path] for path in lines if path not in readme})
    files = read[len(pages) :]
    if lines and not files:
        return Turn(text="I read what should tell most.", calls=_reads([*readme, *largest]))
    excerpts = list(map(_excerpt, files))
    findings = Findings(
        total=total,
        named=sorted({*named, *lines}),
        lines=lines,
        complete=listing.files_counted(counts) == len(lines),
        readme=excerpts[0] if readme else None,
        largest=excerpts[len(readme) :],
    )
    return Turn(text=overview(findings))


def _pages(path: str, files: int) -> tuple[Call, ...]:
    limit = listing.LINES_OF_A_PAGE
    return tuple(
        Call(tool="Read", input={"file_path": path, "offset": first, "limit": limit})
        for first in list(listing.pages(files))[:MOST_PAGES]
    )


def _lines(results: Sequence[Result]) -> list[str]:
    return [line for result in results for line in listing.lines_read(result.text)]


def _reads(paths: Sequence[str]) -> tuple[Call, ...]:
    return tuple(
        Call(tool="Read", input={"file_path": path, "limit": LINES_OF_A_FILE}) for path in paths
    )


def _readme(lines: Mapping[str, int]) -> list[str]:
    """Return the README at the top of the repository, if there is one."""
    names = [path for path in lines if path.lower().startswith("readme") and "/" not in path]
    return sorted(names, key=lambda path: (len(path), path))[:1]


def _largest(lines: Mapping[str, int]) -> list[str]:
    """Return the sources with most lines; where there are none, the texts."""
    sources = [path for path in lines if language_of(path)]
    return sorted(sources or lines, key=lambda path: (-lines[path], path))[:LARGEST]


def _excerpt(read: Result) -> Excerpt:
    lines = [] if read.failed else listing.lines_read(read.text)
    return Excerpt(path=read.input["file_path"], lines=lines)
