"""Turns a small part of Markdown into man(7), the language of manual pages.

    # NAME, ## fondation-worker run    sections and subsections
    an empty line                      parts paragraphs
    term                               a line before one that begins with ": " is a term, and
    : its text                         that line, with those indented below it, explains it
    four blanks before a line          an example, shown as it is written
    `bold`, *italic*                   literal words; what is replaced by a value

Every other character stands for itself, whatever roff would make of it.
"""

import re
from collections.abc import Iterator

_BLOCKS = re.compile(r"\n(?:[ \t]*\n)+")
_SPANS = re.compile(r"(`[^`]+`|\*[^*]+\*)")
_SENTENCE_END = re.compile(r"(?<=[.?!]) (?=[A-Z0-9`*(])")
_ESCAPES = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}


def page(title: str, section: int, *, date: str, source: str, manual: str, body: str) -> str:
    """Return *body*, which is Markdown, as the manual page *title*(*section*)."""
    fields = (_argument(field) for field in (source, manual))
    lines = [f".TH {_argument(title)} {section} {date} {' '.join(fields)}", ".nr HY 0", ".ad l"]
    for block in _BLOCKS.split(body.strip("\n")):
        below_heading = lines[-1].startswith(".S")  # it parts what follows by itself
        made = list(_block(block))
        lines += made[1:] if below_heading and made[0] == ".PP" else made
    return "\n".join(lines) + "\n"


def _block(block: str) -> Iterator[str]:
    """Yield the lines of roff for one paragraph, heading, term or example."""
    first, _, rest = block.partition("\n")
    if block.startswith("    "):
        yield from (".PP", ".RS 4", ".EX")
        yield from (_guarded(_escaped(line.removeprefix("    "))) for line in block.split("\n"))
        yield from (".EE", ".RE")
    elif heading := re.fullmatch(r"(#{1,2}) (.*)", block):
        yield f"{'.SH' if len(heading[1]) == 1 else '.SS'} {_argument(heading[2])}"
    elif rest.startswith(": "):
        yield from (".TP", _guarded(_inline(first)))
        yield from _prose(rest.removeprefix(": "))
    else:
        yield ".PP"
        yield from _prose(block)


def _prose(text: str) -> Iterator[str]:
    """Yield *text*, each sentence beginning a line of its own, as roff wants it."""
    words = " ".join(text.split())
    for sentence in _SENTENCE_END.split(words):
        yield _guarded(_inline(sentence))


def _inline(text: str) -> str:
    """Return *text* with its bold and italic words in these fonts."""
    return "".join(_span(part) for part in _SPANS.split(text))


def _span(part: str) -> str:
    if not _SPANS.fullmatch(part):
        return _escaped(part)
    return f"\\f{'B' if part[0] == '`' else 'I'}{_escaped(part[1:-1])}\\fR"


def _argument(text: str) -> str:
    """Return *text* as one argument of a macro."""
    return '"' + _escaped(text).replace('"', "\\(dq") + '"'


def _escaped(text: str) -> str:
    """Return *text* so that every character is itself, a dash ASCII's: what is copied works."""
    return "".join(
        _ESCAPES.get(char) or (char if char.isascii() else f"\\[u{ord(char):04X}]") for char in text
    )


def _guarded(line: str) -> str:
    """Return *line* so that it is text: one that begins with . or ' would be a request."""
    return f"\\&{line}" if line.startswith((".", "'")) else line
