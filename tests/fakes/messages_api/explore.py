"""How the demo's script looks at a repository, through the CLI's tools.

It lists the files, then reads the README and the largest sources. Whatever it decides, it decides
from what the tools returned so far; it remembers nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

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
    counts = [result for result in read if result.input["file_path"] == saved]
    if saved and not counts:
        return Turn(text="The list is long; I read it in pages.", calls=_pages(saved, total))
    lines = listing.lines_counted(_lines(counts) if saved else counted.text.splitlines())
    files = {result.input["file_path"]: result for result in read[len(counts) :]}
    readme, largest = _readme(lines), _largest(lines)
    wanted = [readme, *largest] if readme else largest
    if wanted and not files:
        return Turn(text="I read what should tell most.", calls=tuple(map(_read, wanted)))
    return Turn(
        text=overview(
            Findings(
                total=total,
                named=sorted({*named, *lines}),
                lines=lines,
                complete=not saved or total <= MOST_PAGES * listing.LINES_OF_A_PAGE,
                readme=_excerpt(readme, files) if readme else None,
                largest=[_excerpt(path, files) for path in largest],
            )
        )
    )


def _pages(path: str, lines: int) -> tuple[Call, ...]:
    limit = listing.LINES_OF_A_PAGE
    return tuple(
        Call(tool="Read", input={"file_path": path, "offset": first, "limit": limit})
        for first in list(listing.pages(lines))[:MOST_PAGES]
    )


def _lines(results: Sequence[Result]) -> list[str]:
    return [line for result in results for line in listing.lines_read(result.text)]


def _read(path: str) -> Call:
    return Call(tool="Read", input={"file_path": path, "limit": LINES_OF_A_FILE})


def _readme(lines: Mapping[str, int]) -> str | None:
    """Return the README at the top of the repository, the shortest name first, or None."""
    names = [path for path in lines if path.lower().startswith("readme") and "/" not in path]
    return min(names, key=lambda path: (len(path), path), default=None)


def _largest(lines: Mapping[str, int]) -> list[str]:
    """Return the sources with most lines; where there are none, the texts."""
    sources = [path for path in lines if language_of(path)]
    texts = [path for path in lines if not PurePosixPath(path).name.lower().startswith("readme")]
    return sorted(sources or texts, key=lambda path: (-lines[path], path))[:LARGEST]


def _excerpt(path: str, files: Mapping[str, Result]) -> Excerpt:
    result = files[path]
    return Excerpt(path=path, lines=[] if result.failed else listing.lines_read(result.text))
