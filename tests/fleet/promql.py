"""What a query of Prometheus names: metrics, labels, values. No parser: a look at its words."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_WORDS = {"and", "or", "unless", "bool", "offset"}
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_LABELS = re.compile(r"\b(by|on|ignoring|without|group_left|group_right)\s*\(([^)]*)\)")
_RANGE = re.compile(r"\[[^\]]*\]")
_SELECTOR = re.compile(r"(?<![\w:.])([A-Za-z_:][\w:]*)\s*(\{[^}]*\})?(?!\s*\(|[\w:])")
_MATCHER = re.compile(r"(\w+)\s*(=~|!~|!=|=)\s*\x00(\d+)\x00")
_MADE = re.compile(r"label_replace\((.*)\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Matcher:
    """What is asked of one label."""

    label: str
    operator: str
    value: str


@dataclass(frozen=True, slots=True)
class Selector:
    """Which series of which metric are asked for."""

    metric: str
    matchers: tuple[Matcher, ...] = ()


@dataclass(frozen=True, slots=True)
class Names:
    """Everything that a query names."""

    selectors: tuple[Selector, ...]
    grouped: frozenset[str]  # labels that it groups or joins by
    made: frozenset[str]  # labels that it makes itself


def names(query: str) -> Names:
    """Return what *query* names."""
    strings: list[str] = []

    def kept(found: re.Match[str]) -> str:
        strings.append(found[1])
        return f"\x00{len(strings) - 1}\x00"

    text = _STRING.sub(kept, query)
    lists = _LABELS.findall(text)
    rest = _RANGE.sub("", _LABELS.sub(" ", text))
    return Names(
        selectors=tuple(_selectors(rest, strings)),
        grouped=frozenset(re.findall(r"\w+", " ".join(labels for _, labels in lists))),
        made=frozenset(_made(text, strings)),
    )


def _selectors(text: str, strings: list[str]) -> Iterator[Selector]:
    for name, braces in _SELECTOR.findall(re.sub(r"\x00\d+\x00(?![^{]*\})", " ", text)):
        if name not in _WORDS:
            found = _MATCHER.findall(braces)
            matchers = (Matcher(label, how, strings[int(n)]) for label, how, n in found)
            yield Selector(name, tuple(matchers))


def _made(text: str, strings: list[str]) -> Iterator[str]:
    for arguments in _MADE.findall(text):
        first = re.search(r",\s*\x00(\d+)\x00", re.sub(r"\{[^}]*\}", "", arguments))
        if first:
            yield strings[int(first[1])]
