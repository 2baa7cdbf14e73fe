"""The hand-in: one offer of a finished result to Convex, which may be made again at any time.

`complete` comes first, always: it names what is missing, and only that is sent. So whatever an
earlier offer has staged, from before a lost reply or a restart, is not sent again.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from itertools import count

from fondation_worker.convex import wait_before
from fondation_worker.errors import NotStaged, Refused
from fondation_worker.job import Token
from fondation_worker.queue import Queue, proof
from fondation_worker.result import INLINE_SUM, Document, Result

logger = logging.getLogger(__name__)

BATCH_LIMIT = INLINE_SUM // 2  # bytes of text in one `stageDocs`; a mutation may write 16 MiB

MOST_ROUNDS = 8  # of staging and completing: about a minute; then the two sides disagree for good

Note = Callable[[int, str | None], None]
"""Keeps the storage id of a document; None: what it had is of no use any more."""


async def hand_in(
    queue: Queue, token: Token, result: Result, *, stored: Mapping[int, str], note: Note
) -> None:
    """Offer *result* once, to the end. *note* changes *stored*, which is what it kept so far.

    Raises Unreachable when the outcome is unknown: offer it again. Raises LeaseLost, and Refused,
    when it will never be taken; but a refused key says nothing about the result.
    """
    for rounds in count():
        if rounds > 1:  # the second `complete` should have been enough
            logger.warning("Convex still misses documents; staging them again")
            await asyncio.sleep(wait_before(rounds))
        if rounds > MOST_ROUNDS:
            raise Refused("not_staged", "Convex keeps missing documents that were staged")
        try:
            await _complete(queue, token, result)
        except NotStaged as error:
            missing = [document for document in result.documents if document.index in error.missing]
        else:
            return
        try:
            await _stage(queue, token, missing, stored, note)
        except NotStaged as error:  # a stored file is gone or damaged: it is uploaded again
            for index in error.missing:
                note(index, None)


async def _complete(queue: Queue, token: Token, result: Result) -> None:
    await queue.call(
        "complete",
        proof(token)
        | {
            "digests": [document.digest for document in result.documents],
            "message": result.message,
            "commit": result.commit,
            "usage": result.usage.to_document(),
        },
    )


async def _stage(
    queue: Queue, token: Token, missing: list[Document], stored: Mapping[int, str], note: Note
) -> None:
    """Upload what is stored as files, noting their ids, then stage every row."""
    for document in missing:
        if document.stored and document.index not in stored:
            content, sha256 = document.text.encode(), document.file_sha256
            note(document.index, await queue.store(token, content, sha256))
    for batch in batches(missing):
        rows = [document.to_document(stored.get(document.index)) for document in batch]
        await queue.call("stageDocs", proof(token) | {"docs": rows})


def batches(documents: list[Document]) -> list[list[Document]]:
    """Return *documents*, in order, in calls that each hold at most BATCH_LIMIT bytes of text."""
    found: list[list[Document]] = []
    size = BATCH_LIMIT + 1
    for document in documents:
        length = len(document.content.encode())
        if size + length > BATCH_LIMIT:
            found.append([])
            size = 0
        found[-1].append(document)
        size += length
    return found
