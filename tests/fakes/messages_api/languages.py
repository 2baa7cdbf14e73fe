"""Which files are sources, and how their languages define names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True, slots=True)
class Language:
    """A family of programming languages that define names alike."""

    name: str
    """As Markdown names it after a fence."""
    suffixes: str
    defines: str
    """A pattern for one line; its first group that matched is the name."""


# Anchored at the line's start and followed by what the syntax demands, so that prose in a comment
# rarely matches.
LANGUAGES = (
    Language("python", ".py .pyi", r"(?:async )?(?:def|class) (\w+)\s*[(:\[]"),
    Language(
        "typescript",
        ".ts .mts .cts .tsx .js .mjs .cjs .jsx",
        r"(?:export )?(?:default )?(?:declare )?(?:abstract )?(?:async )?"
        r"(?:(?:function\*?|class) ([\w$]+)\s*[<({ ]|interface ([\w$]+)[^;]*\{|enum ([\w$]+)\s*\{"
        r"|(?:const|let|var|type) ([\w$]+)[^=(]*=)",
    ),
    Language("go", ".go", r"(?:func (?:\([^)]*\) )?(\w+)\s*[(\[]|type (\w+)\s+[\w\[*(])"),
    Language(
        "rust",
        ".rs",
        r"\s*(?:pub(?:\([^)]*\))? )?(?:async |unsafe |const |extern \"C\" )*"
        r"(?:fn (\w+)\s*[<(]|(?:struct|enum|trait|union) (\w+)\s*(?:[<({;:]|$)|macro_rules! (\w+))",
    ),
    Language(
        "c",
        ".c .h .cc .cpp .cxx .hh .hpp .m .mm",
        r"(?:(?:typedef )?(?:struct|class|union|enum(?: class)?|namespace) (\w+)\s*[{:]?\s*$"
        r"|(?!else|return|typedef|#)[A-Za-z_][\w:<>,*& ]*?[ *&]([A-Za-z_][\w:~]*)\([^;]*$)",
    ),
    Language(
        "java",
        ".java .kt .kts .cs .scala .swift .dart .php .groovy",
        r"\s*(?:@?\w+ )*?(?:class|interface|enum|record|object|trait|struct|protocol|namespace) "
        r"(\w+)[^;.]*$|\s*(?:\w+ )*(?:fun|func|function) (\w+)\s*[<(]",
    ),
    Language("ruby", ".rb .cr", r"\s*(?:def|class|module) ((?:self\.)?[\w:]+[?!=]?)"),
    Language("elixir", ".ex .exs", r"\s*def(?:module|p|macro|protocol)? ([\w.]+[?!]?)"),
    Language("bash", ".sh .bash .zsh", r"(?:function )?([\w:-]+)\s*\(\)"),
    Language("perl", ".pl .pm", r"(?:sub|package) ([\w:]+)"),
    Language("lua", ".lua", r"(?:local )?function ([\w.:]+)\s*\("),
    Language("haskell", ".hs .elm .ml .mli .fs", r"(?:data|newtype|class|type|let(?: rec)?) (\w+)"),
    Language("zig", ".zig", r"\s*(?:pub )?(?:fn (\w+)\(|const (\w+) = (?:struct|enum|union))"),
    Language("sql", ".sql", r"(?i:create (?:or replace )?\w+ (?:if not exists )?([\w.\"]+))"),
)

_BY_SUFFIX = {suffix: language for language in LANGUAGES for suffix in language.suffixes.split(" ")}


def language_of(path: str) -> Language | None:
    """Return the language of a source, or None when the file is none."""
    return _BY_SUFFIX.get(PurePosixPath(path).suffix.lower())


def defined_names(language: Language, lines: Iterable[str]) -> list[str]:
    """Return the names that these lines define, in order, each once."""
    pattern = re.compile(language.defines)
    matches = (pattern.match(line) for line in lines)
    return list(
        dict.fromkeys(match[match.lastindex] for match in matches if match and match.lastindex)
    )
