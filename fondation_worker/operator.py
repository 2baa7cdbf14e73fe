"""The operator's side of `docs/protocol.md`: put jobs in, look at them, read what came of them.

Every call is made once: an operator sees what went wrong, and decides. What Convex answers is
parsed here; fields that it does not know yet are ignored, so the functions may be newer.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec

from fondation_worker.config import OperatorConfig
from fondation_worker.convex import Convex, connect
from fondation_worker.errors import Refused, Unreachable

ENDED = frozenset({"completed", "dead", "canceled", "failed"})
IN_FLIGHT = frozenset({"claimed", "cloning", "analyzing", "gathering", "running"})
NO_SUCH_JOB = "no_such_job"
_LONGEST_ID = 60  # characters of an id that an error quotes


class Answer(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What Convex answered. Times are milliseconds since the epoch, by the deployment's clock."""

    def to_document(self) -> dict[str, Any]:
        """Return the fields that are known, named as the protocol names them."""
        document: dict[str, Any] = _whole(msgspec.to_builtins(self))
        return document


class Usage(Answer, frozen=True, kw_only=True):
    """What a run consumed."""

    model: str | None = None
    cost_usd: float | None = None
    turns: float | None = None
    duration_ms: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    cache_read_tokens: float | None = None
    cache_creation_tokens: float | None = None

    def in_words(self) -> str:
        """Return the figures that an operator looks for."""
        known = (
            ("", self.model),
            ("$", None if self.cost_usd is None else f"{self.cost_usd:.4f}"),
            ("turns ", None if self.turns is None else f"{self.turns:.0f}"),
            ("tokens in ", None if self.input_tokens is None else f"{self.input_tokens:.0f}"),
            ("out ", None if self.output_tokens is None else f"{self.output_tokens:.0f}"),
        )
        return ", ".join(f"{name}{value}" for name, value in known if value is not None)


class JobRow(Answer, frozen=True, kw_only=True):
    """A job, as `jobs:get` and `jobs:list` show it."""

    id: str
    status: str
    repository: str
    clone_url: str
    prompt: str
    priority: float
    attempt: float
    attempts: float
    max_attempts: float
    created_at: float
    ref: str | None = None
    commit: str | None = None
    subdirectory: str | None = None
    run_at: float | None = None
    model: str | None = None
    timeout_ms: float | None = None
    worker_id: str | None = None
    lease_until: float | None = None
    progress: str | None = None
    current_step: float | None = None
    total_steps: float | None = None
    docs_count: float | None = None
    result: Any = None  # words, or fields of which `message` holds them
    resolved_commit: str | None = None
    usage: Usage | None = None
    error: str | None = None
    error_class: str | None = None
    last_error: str | None = None
    updated_at: float | None = None
    completed_at: float | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will become of it by itself."""
        return self.status in ENDED

    @property
    def outcome(self) -> str | None:
        """What the worker said at the end, in words."""
        said = self.result.get("message") if isinstance(self.result, dict) else self.result
        return None if said is None else str(said)


class DocRow(Answer, frozen=True, kw_only=True):
    """A document; of one that is stored as a file, `url` has all and `content` the beginning."""

    slug: str
    title: str
    kind: str
    chapter_index: float
    content: str
    url: str | None = None
    size: float | None = None
    created_at: float | None = None

    @property
    def bytes(self) -> int:
        """How large the whole document is."""
        stored = self.url is not None and self.size is not None
        return int(self.size or 0) if stored else len(self.content.encode(errors="replace"))


class LogRow(Answer, frozen=True, kw_only=True):
    """One line of a job's log."""

    seq: float
    attempt: int
    at: float
    level: str
    msg: str


class LogPage(Answer, frozen=True, kw_only=True):
    """Lines of a log, in order, and whether there are more."""

    lines: tuple[LogRow, ...]
    more: bool = False


class WorkerRow(Answer, frozen=True, kw_only=True):
    """A worker that has reported."""

    instance: str
    worker_id: str
    version: str
    slots: int
    busy: int
    state: str
    started_at: float
    seen_at: float


class Workers(Answer, frozen=True, kw_only=True):
    """The workers, the latest seen first, and what time it is there."""

    workers: tuple[WorkerRow, ...]
    now: float


class Enqueued(Answer, frozen=True, kw_only=True):
    """Which job it is, and whether it was there before."""

    job_id: str
    duplicate: bool = False


class Settled(Answer, frozen=True, kw_only=True):
    """What became of a cancel or a retry: the new status, or the one that it ended with."""

    status: str | None = None
    already: str | None = None


_Type = TypeVar("_Type", bound=Answer)


class Operator:
    """One deployment, asked with the operator's key. Made by `operating`.

    Every method raises Refused for a definite no, and Unreachable when the outcome is unknown.
    """

    def __init__(self, convex: Convex, key: str) -> None:
        self._convex = convex
        self._key = {"operatorKey": key}

    async def enqueue(self, job: Mapping[str, Any]) -> Enqueued:
        """Put *job* in: the arguments of `jobs:enqueue`; those that are None are left out."""
        return _read(await self._mutation("jobs:enqueue", job), Enqueued)

    async def job(self, job_id: str) -> JobRow:
        """Return the job; Refused (NO_SUCH_JOB) where there is none."""
        answer = await self._query("jobs:get", {"jobId": job_id})
        if answer is None:
            raise _no_such_job(job_id)
        return _read(answer, JobRow)

    async def jobs(self, *, status: str | None, limit: int) -> list[JobRow]:
        """Return the newest jobs first; of very long prompts, fewer than *limit*."""
        answer = await self._query("jobs:list", {"status": status, "limit": float(limit)})
        if not isinstance(answer, list):
            raise Unreachable("jobs:list: Convex answered what cannot be read: no list")
        return [_read(row, JobRow) for row in answer]

    async def cancel(self, job_id: str) -> Settled:
        """Cancel the job, at once and for good; one that has ended stays as it is."""
        return await self._settle("jobs:cancel", job_id)

    async def retry(self, job_id: str) -> Settled:
        """Let the job run again with all of its attempts."""
        return await self._settle("jobs:retry", job_id)

    async def logs(self, job_id: str, *, after: float | None, limit: int = 1000) -> LogPage:
        """Return the next lines of the job's log, those *after* a `seq`."""
        arguments = {"jobId": job_id, "after": after, "limit": float(limit)}
        return _read(await self._query("jobs:logs", arguments), LogPage)

    async def documents(self, job_id: str) -> list[DocRow]:
        """Return the job's documents, in order."""
        answer = await self._query("docs:list", {"jobId": job_id})
        return list(_read(answer, _Documents).docs)

    async def workers(self) -> Workers:
        """Return the workers that have reported."""
        return _read(await self._query("workers:list", {}), Workers)

    def download(self, url: str) -> AsyncIterator[bytes]:
        """Give the file at *url*, which a document named, piece by piece."""
        return self._convex.download(url)

    async def _settle(self, path: str, job_id: str) -> Settled:
        """Call *path* about the job; Refused (NO_SUCH_JOB) where there is none."""
        try:
            return _read(await self._mutation(path, {"jobId": job_id}), Settled)
        except Refused as refusal:
            if refusal.message.endswith("jobId: is not in the table jobs"):
                raise _no_such_job(job_id) from refusal
            raise

    async def _query(self, path: str, arguments: Mapping[str, Any]) -> Any:
        return await self._convex.query(path, {**self._key, **arguments})

    async def _mutation(self, path: str, arguments: Mapping[str, Any]) -> Any:
        return await self._convex.mutation(path, {**self._key, **arguments})


class _Documents(Answer, frozen=True, kw_only=True):
    docs: tuple[DocRow, ...]


@asynccontextmanager
async def operating(config: OperatorConfig) -> AsyncIterator[Operator]:
    """Give the operator's side of the deployment that *config* names."""
    async with connect(config.convex_url, config.convex_functions) as convex:
        yield Operator(convex, config.operator_key)


def _no_such_job(job_id: str) -> Refused:
    cut = job_id if len(job_id) <= _LONGEST_ID else f"{job_id[:_LONGEST_ID]}…"
    return Refused(NO_SUCH_JOB, f"there is no job {cut or 'without an id'}")


def _read(answer: Any, kind: type[_Type]) -> _Type:
    """Return *answer* as a *kind*; raise Unreachable for one that is none."""
    try:
        return msgspec.convert(answer, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Unreachable(f"Convex answered what cannot be read: {error}") from error


def _whole(value: Any) -> Any:
    """Return *value* with its whole numbers written as such: Convex has floats only."""
    if isinstance(value, dict):
        return {name: _whole(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(each) for each in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
