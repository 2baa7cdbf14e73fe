"""From Claude's final text to documents that Convex takes: pure, and the one place of the limits.

A document's digest and the limits are those of `docs/protocol.md`.
"""

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

INLINE_LIMIT = 64 * 1024  # bytes of one document's text; larger ones become files
INLINE_SUM = 4 * 1024 * 1024  # bytes of all inline texts of an attempt
EXCERPT = 16 * 1024  # bytes of a stored file's text that its row carries
TITLE_LIMIT = 200  # characters
HEADING_LIMIT = 1000  # characters of a line that are looked at for a title
DEEPEST_HEADING = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a run cost, as the CLI reported it."""

    model: str | None = None
    cost_usd: float | None = None
    turns: int | None = None
    duration_ms: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_creation_tokens: int | None = None

    def to_document(self) -> dict[str, Any]:
        """Return what Convex is sent; values that are not known are left out."""
        names = {
            "model": self.model,
            "costUsd": self.cost_usd,
            "turns": self.turns,
            "durationMs": self.duration_ms,
            "inputTokens": self.input_tokens,
            "outputTokens": self.output_tokens,
            "cacheReadTokens": self.cache_read_tokens,
            "cacheCreationTokens": self.cache_creation_tokens,
        }
        return {name: value for name, value in names.items() if value is not None}

    def in_words(self) -> str:
        """Return the figures that an operator looks for, for a log line."""
        known = {
            "model": self.model,
            "turns": self.turns,
            "dollars": None if self.cost_usd is None else f"{self.cost_usd:.4f}",
            "tokens in": self.input_tokens,
            "out": self.output_tokens,
        }
        return ", ".join(f"{name} {value}" for name, value in known.items() if value is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one model had of a run's cost, as the CLI reported it."""

    model: str
    cost_usd: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_creation_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document, whole. `index` is its place in the result."""

    index: int
    slug: str
    title: str
    kind: str  # chapter, tutorial, toc or yaml
    chapter_index: int
    text: str
    stored: bool  # whether the text goes to file storage

    @property
    def file_sha256(self) -> str:
        """The digest of the file that holds a stored text; "" for an inline one."""
        return hashlib.sha256(self.text.encode()).hexdigest() if self.stored else ""

    @property
    def content(self) -> str:
        """What the row carries: the text, or the beginning of a stored one and a note."""
        if not self.stored:
            return self.text
        size = len(self.text.encode())
        head = self.text.encode()[:EXCERPT].decode(errors="ignore")
        note = f"the first {len(head.encode())} of {size} bytes; the whole text is in the file"
        return f"{head}\n\n… ({note})\n"

    @property
    def digest(self) -> str:
        """The digest that `complete` names this document by."""
        parts = (
            self.slug,
            self.title,
            self.kind,
            str(self.chapter_index),
            self.content,
            self.file_sha256,
        )
        return digest_of(*parts)

    def to_document(self, storage_id: str | None = None) -> dict[str, Any]:
        """Return the row that `stageDocs` is sent; a stored text needs its *storage_id*."""
        row: dict[str, Any] = {
            "index": self.index,
            "slug": self.slug,
            "title": self.title,
            "kind": self.kind,
            "chapterIndex": self.chapter_index,
            "content": self.content,
        }
        if self.stored:
            row |= {
                "storageId": storage_id,
                "fileSha256": self.file_sha256,
                "size": len(self.text.encode()),
            }
        return row


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A finished analysis: what is handed in, and nothing else."""

    documents: tuple[Document, ...]
    commit: str
    usage: Usage = field(default_factory=Usage)

    @property
    def message(self) -> str:
        """One line for people."""
        count = len(self.documents)
        return f"Generated {count} document{'' if count == 1 else 's'} successfully"


def digest_of(*parts: str) -> str:
    """Return the SHA-256, in hexadecimal, of *parts*, each behind its length in bytes."""
    hashed = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        hashed.update(b"%d:%s" % (len(encoded), encoded))
    return hashed.hexdigest()


def documents_from(text: str, *, fallback_title: str) -> tuple[Document, ...]:
    """Return the documents in a run's final *text*: today one, titled by its first heading."""
    title = title_of(text) or fallback_title[:TITLE_LIMIT]
    return (
        Document(
            index=0,
            slug=slug_of(title),
            title=title,
            kind="chapter",
            chapter_index=0,
            text=text,
            stored=len(text.encode()) > INLINE_LIMIT,
        ),
    )


def title_of(text: str) -> str | None:
    """Return the first Markdown heading outside code fences, without marks, or None.

    Line by line: what a repository makes a model write must not cost more than it is long.
    """
    fence = ""
    for line in text.splitlines():
        bare = line.strip()
        if fence:
            fence = "" if bare.startswith(fence) else fence
        elif bare.startswith(("```", "~~~")):
            fence = bare[:3]
        elif title := _heading(bare[:HEADING_LIMIT]):
            return title
    return None


def _heading(line: str) -> str:
    """Return the words of *line* if it is a heading, else nothing."""
    words = line.lstrip("#")
    if not 1 <= len(line) - len(words) <= DEEPEST_HEADING or not words.startswith((" ", "\t")):
        return ""
    return re.sub(r"[`*_]", "", words.rstrip("# \t")).strip()[:TITLE_LIMIT].strip()


def slug_of(title: str) -> str:
    """Return *title* as a part of a URL: lower case letters, digits, dashes; never empty."""
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:80].strip("-")
    return slug or "document"


def well_formed(text: str) -> str:
    """Return *text* with lone surrogates, which JavaScript prints and UTF-8 forbids, replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
