"""One finished result on disk: a directory that is there whole, or not at all.

`manifest.json` names the attempt, the deployment and every document; each document's text is a
file; `stored` grows by a line for each storage id as it comes.
"""

import hashlib
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from fondation_worker import durable
from fondation_worker.claims import Deployment
from fondation_worker.job import Token
from fondation_worker.result import Document, Result, Usage
from fondation_worker.workspace import name_of

VERSION = 1
MANIFEST = "manifest.json"
SEAL = "manifest.sha256"  # the digest of that; the manifest has those of the documents
STORED = "stored"


class Damaged(Exception):
    """What is on disk is no whole entry: torn, foreign, or of a version that we do not know."""


class _Piece(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    slug: str
    title: str
    kind: str
    chapter_index: int
    stored: bool
    sha256: str  # of the file that holds its text


class _Manifest(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    url: str
    functions: str
    job_id: str
    lease_token: str
    attempt: int
    since: float  # seconds since the epoch by Convex's clock
    commit: str
    usage: Usage
    documents: list[_Piece]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A finished result, whose it is, and since when (by Convex's clock) it waits."""

    token: Token
    deployment: Deployment
    since: float
    result: Result = field(repr=False)


def write(parent: Path, entry: Entry) -> Path:
    """Put *entry* on disk below *parent*, fsynced and whole; return where. Raises OSError."""
    durable.make(parent)
    place = parent / name_of(entry.token)
    draft = parent / f".{place.name}.{secrets.token_hex(4)}"
    draft.mkdir(mode=0o700)
    try:
        for document in entry.result.documents:
            durable.write(draft / f"{document.index}.md", document.text.encode())
        manifest = msgspec.json.encode(_manifest_of(entry))
        durable.write(draft / MANIFEST, manifest)
        durable.write(draft / SEAL, hashlib.sha256(manifest).hexdigest().encode())
        durable.settle(draft)
        draft.rename(place)
    except BaseException:
        durable.remove_quietly(draft)
        raise
    try:
        durable.settle(parent)
    except BaseException:  # whoever tries again must find nothing in the way
        durable.remove_quietly(place)
        raise
    return place


def _manifest_of(entry: Entry) -> _Manifest:
    return _Manifest(
        version=VERSION,
        url=entry.deployment.url,
        functions=entry.deployment.functions,
        job_id=entry.token.job_id,
        lease_token=entry.token.lease_token,
        attempt=entry.token.attempt,
        since=entry.since,
        commit=entry.result.commit,
        usage=entry.result.usage,
        documents=[
            _Piece(
                index=document.index,
                slug=document.slug,
                title=document.title,
                kind=document.kind,
                chapter_index=document.chapter_index,
                stored=document.stored,
                sha256=hashlib.sha256(document.text.encode()).hexdigest(),
            )
            for document in entry.result.documents
        ],
    )


def read(place: Path) -> Entry:
    """Return the entry at *place*, every byte of it checked. Raises Damaged."""
    try:
        written = (place / MANIFEST).read_bytes()
        if hashlib.sha256(written).hexdigest().encode() != (place / SEAL).read_bytes():
            raise Damaged(f"{MANIFEST} is not what was written")
        manifest = msgspec.json.decode(written, type=_Manifest)
        if manifest.version != VERSION:
            raise Damaged(f"version {manifest.version} of a manifest is not known here")
        documents = tuple(_document(place, piece) for piece in manifest.documents)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Damaged(f"cannot be read: {error}") from error
    return Entry(
        token=Token(
            job_id=manifest.job_id, lease_token=manifest.lease_token, attempt=manifest.attempt
        ),
        deployment=Deployment(url=manifest.url, functions=manifest.functions),
        since=manifest.since,
        result=Result(documents=documents, commit=manifest.commit, usage=manifest.usage),
    )


def _document(place: Path, piece: _Piece) -> Document:
    content = (place / f"{piece.index}.md").read_bytes()
    if hashlib.sha256(content).hexdigest() != piece.sha256:
        raise Damaged(f"{piece.index}.md is not what the manifest names")
    return Document(
        index=piece.index,
        slug=piece.slug,
        title=piece.title,
        kind=piece.kind,
        chapter_index=piece.chapter_index,
        text=content.decode(),
        stored=piece.stored,
    )


def note_stored(place: Path, index: int, storage_id: str | None) -> None:
    """Note that document *index* is stored under *storage_id* (None: not any more), on disk."""
    opened = os.open(place / STORED, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        # The line break before it: the line before may have been cut short.
        os.write(opened, b"\n" + msgspec.json.encode([index, storage_id]) + b"\n")
        os.fsync(opened)
    finally:
        os.close(opened)


def stored_in(place: Path) -> dict[int, str]:
    """Return the storage ids noted at *place*; a line that a crash cut short is left out."""
    found: dict[int, str | None] = {}
    try:
        lines = (place / STORED).read_bytes().splitlines()
    except OSError:  # none yet: at worst a file is uploaded again
        return {}
    for line in lines:
        try:
            index, storage_id = msgspec.json.decode(line, type=tuple[int, str | None])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        found[index] = storage_id
    return {index: storage_id for index, storage_id in found.items() if storage_id is not None}
