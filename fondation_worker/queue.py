"""The protocol of `docs/protocol.md`, spoken: claim, heartbeat, hand in, fail, release.

Every call may be repeated with the same arguments, and is, whenever its outcome is unknown.
"""

import asyncio
import logging
import random
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from fondation_worker.clock import boottime
from fondation_worker.convex import Convex
from fondation_worker.errors import InvalidJob, LeaseLost, NotStaged, Unreachable
from fondation_worker.job import Job, Token
from fondation_worker.result import INLINE_SUM, Document, Result
from fondation_worker.verdict import Verdict

logger = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")

_FIRST_WAIT = 0.2  # seconds before a call whose outcome is unknown is repeated
_LONGEST_WAIT = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A job of ours, and until when (seconds on `boottime`) if nothing renews its lease."""

    job: Job
    token: Token
    deadline: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """Nothing is due; `next_in` is the seconds until the next job is, or None."""

    next_in: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Where a run is, for its row: what the next heartbeat carries."""

    status: str = "cloning"
    progress: str = "starting"
    step: int = 1


TOTAL_STEPS = 3  # cloning, analyzing, gathering


class Queue:
    """This worker's side of the queue in Convex."""

    def __init__(
        self, convex: Convex, *, key: str, worker_id: str, instance: str, lease_time: float
    ) -> None:
        self._convex = convex
        self._key = key
        self._names = {"workerId": worker_id, "instance": instance}
        self._lease_ms = round(lease_time * 1000)
        self._server_ahead = 0.0  # Convex's clock minus `boottime`, from the last answer

    async def claim(self) -> Claimed | Idle:
        """Claim the best job that is due. Asks until Convex answers; a lost answer loses no job.

        A job that Convex described wrongly is failed on the spot. Raises Refused.
        """
        token, arguments = "", {}
        while True:
            if not token:
                token = secrets.token_urlsafe(24)
                arguments = self._names | {"leaseToken": token, "leaseMs": self._lease_ms}
            asked = boottime()
            answer = await _until_answered(partial(self._call, "claim", arguments))
            if answer.get("lost"):  # it was ours, but we learned of it too late
                logger.warning("a claim's answer came too late: %s", answer.get("reason"))
                token = ""
                continue
            if answer["job"] is None:
                due = answer.get("nextRunAt")
                return Idle(next_in=None if due is None else max(0.0, (due - answer["now"]) / 1000))
            deadline = self._deadline(answer, asked)
            claimed = await self._parsed(answer["job"], token, deadline)
            if claimed:
                return claimed
            token = ""

    async def _parsed(self, document: Any, token: str, deadline: float) -> Claimed | None:
        """Return the claimed job, or give back one that cannot be read."""
        proof = Token(
            job_id=str(document["id"]), lease_token=token, attempt=int(document["attempt"])
        )
        try:
            return Claimed(job=Job.from_document(document), token=proof, deadline=deadline)
        except InvalidJob as error:
            logger.exception("job %s: cannot be read", proof.job_id)
            told = Verdict(failure=error.failure, message=str(error), pause=0.0)
            await self.fail(proof, told, deadline=deadline)
            return None

    async def heartbeat(self, token: Token, *, beat: int, report: Report) -> float:
        """Renew the lease once; return its new deadline. Raises LeaseLost, Refused, Unreachable."""
        asked = boottime()
        answer = await self._call(
            "heartbeat",
            _proof(token)
            | {
                "beat": beat,
                "status": report.status,
                "progress": report.progress,
                "currentStep": report.step,
                "totalSteps": TOTAL_STEPS,
            },
        )
        return self._deadline(answer, asked)

    async def hand_in(self, token: Token, result: Result) -> None:
        """Offer *result* until Convex has taken it. Raises LeaseLost and Refused when it will not.

        `complete` is offered first: what an earlier try has staged is not sent again.
        """
        storage_ids: dict[int, str] = {}
        while True:
            try:
                await _until_answered(lambda: self._complete(token, result))
            except NotStaged as error:
                logger.debug("job %s: staging %d documents", token.job_id, len(error.missing))
                missing = [result.documents[index] for index in error.missing]
            else:
                return
            for document in missing:
                if document.stored and document.index not in storage_ids:
                    storage_ids[document.index] = await self._store(token, document)
            for batch in _batches(missing):
                rows = [doc.to_document(storage_ids.get(doc.index)) for doc in batch]
                await self._stage(token, rows)

    async def _complete(self, token: Token, result: Result) -> Any:
        return await self._call(
            "complete",
            _proof(token)
            | {
                "digests": [document.digest for document in result.documents],
                "message": result.message,
                "commit": result.commit,
                "usage": result.usage.to_document(),
            },
        )

    async def _stage(self, token: Token, rows: list[dict[str, Any]]) -> None:
        arguments = _proof(token) | {"docs": rows}
        await _until_answered(lambda: self._call("stageDocs", arguments))

    async def _store(self, token: Token, document: Document) -> str:
        """Upload a document's text; return its storage id."""

        async def once() -> str:
            answer = await self._call("uploadUrl", _proof(token) | {"sha256": document.file_sha256})
            return await self._convex.upload(str(answer["url"]), document.text.encode())

        return await _until_answered(once)

    async def fail(self, token: Token, verdict: Verdict, *, deadline: float) -> str:
        """Report a failed attempt; return the job's new status.

        Raises LeaseLost, also when *deadline* passes.
        """
        arguments = _proof(token) | {"class": verdict.failure, "message": verdict.message}
        if verdict.pause:
            arguments["retryAt"] = round((self.now() + verdict.pause) * 1000)
        answer = await _until_answered(lambda: self._call("fail", arguments), deadline=deadline)
        return str(answer["status"])

    async def release(self, token: Token, *, reason: str, deadline: float) -> None:
        """Give the job back unspent. Raises LeaseLost, also when *deadline* passes."""
        arguments = _proof(token) | {"reason": reason}
        await _until_answered(lambda: self._call("release", arguments), deadline=deadline)

    def now(self) -> float:
        """Return seconds since the epoch by Convex's clock, as far as the last answer tells."""
        return boottime() + self._server_ahead

    def _deadline(self, answer: dict[str, Any], asked: float) -> float:
        """Return when the lease in *answer* ends, reckoned from before the call was sent."""
        self._server_ahead = answer["now"] / 1000 - boottime()
        return asked + (float(answer["leaseUntil"]) - float(answer["now"])) / 1000

    async def _call(self, function: str, arguments: dict[str, Any]) -> Any:
        return await self._convex.mutation(
            f"queue:{function}", {"workerKey": self._key} | arguments
        )


def _proof(token: Token) -> dict[str, Any]:
    return {"jobId": token.job_id, "leaseToken": token.lease_token, "attempt": token.attempt}


async def _until_answered(
    call: Callable[[], Awaitable[_Answer]], *, deadline: float | None = None
) -> _Answer:
    """Return the answer of *call*, repeating it while its outcome is unknown.

    Raises LeaseLost when *deadline* (seconds on `boottime`) passes first.
    """
    tries = 0
    while True:
        try:
            return await call()
        except Unreachable as error:
            tries += 1
            if tries in {1, 5} or tries % 20 == 0:
                logger.warning("%s; asking again (try %d)", error, tries + 1)
        wait = min(_FIRST_WAIT * 2 ** min(tries - 1, 16), _LONGEST_WAIT)
        wait *= random.uniform(0.5, 1)  # noqa: S311 jitter, not a secret
        if deadline is not None and boottime() + wait >= deadline:
            raise LeaseLost("expired")
        await asyncio.sleep(wait)


def _batches(documents: list[Document]) -> list[list[Document]]:
    """Return *documents* in calls that each stay below what one mutation may write."""
    batches: list[list[Document]] = [[]]
    size = 0
    for document in documents:
        length = len(document.content.encode())
        if batches[-1] and size + length > INLINE_SUM // 2:
            batches.append([])
            size = 0
        batches[-1].append(document)
        size += length
    return [batch for batch in batches if batch]
