"""Documents of a job, written as files: each whole or not at all."""

import os
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fondation_worker.errors import InTheWay, Unreachable
from fondation_worker.filenames import file_names
from fondation_worker.operator import DocRow, Operator

MOST_NAMED = 5  # files in an error's text


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """One document that is a file now."""

    path: Path
    document: DocRow


async def save(
    documents: Sequence[DocRow],
    directory: Path,
    operator: Operator,
    *,
    force: bool,
    written: Callable[[int], None],
) -> list[Saved]:
    """Write *documents* into *directory*, which is made; call *written* with bytes as they come.

    Raises InTheWay, before anything is written, for files that are there already, unless *force*:
    then they are replaced. Raises Unreachable for a download that broke off, and OSError; files
    that were finished by then stay.
    """
    names = file_names([(document.slug, document.kind) for document in documents])
    paths = [directory / name for name in names]
    if not force:
        _refuse_to_overwrite([path for path in paths if os.path.lexists(path)])
    directory.mkdir(parents=True, exist_ok=True)
    for path, document in zip(paths, documents, strict=True):
        await _write(path, _content(document, operator), document, written)
    return [
        Saved(path=path, document=document) for path, document in zip(paths, documents, strict=True)
    ]


def _refuse_to_overwrite(there: list[Path]) -> None:
    if there:
        named = ", ".join(str(path) for path in there[:MOST_NAMED])
        more = f" and {len(there) - MOST_NAMED} more" if len(there) > MOST_NAMED else ""
        raise InTheWay(f"there already: {named}{more}; another --to, or --force to replace them")


async def _content(document: DocRow, operator: Operator) -> AsyncIterator[bytes]:
    if document.url is None:
        yield document.content.encode(errors="replace")
        return
    async for piece in operator.download(document.url):
        yield piece


async def _write(
    path: Path, content: AsyncIterator[bytes], document: DocRow, written: Callable[[int], None]
) -> None:
    """Write the file beside its place, and put it there once it is whole."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    count = 0
    try:
        with beside.open("xb") as file:
            async for piece in content:
                file.write(piece)
                count += len(piece)
                written(len(piece))
        if count != document.bytes:
            raise Unreachable(
                f"{path.name}: {count} bytes came of {document.bytes}; download it again"
            )
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
