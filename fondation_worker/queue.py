"""The protocol of `docs/protocol.md`, spoken: claim, heartbeat, fail, release.

Every call may be repeated with the same arguments, and is, whenever its outcome is unknown.
"""

import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from fondation_worker.clock import boottime, wall_clock
from fondation_worker.convex import Convex, until_answered
from fondation_worker.errors import (
    Crashed,
    InvalidJob,
    LeaseLost,
    Refused,
    TokenUnusable,
    Unreachable,
)
from fondation_worker.job import Job, Token
from fondation_worker.redact import Redactor
from fondation_worker.verdict import Verdict

logger = logging.getLogger(__name__)

TOTAL_STEPS = 3  # cloning, analyzing, gathering
LARGEST_SKEW = 60.0  # seconds between the clocks before the log says so


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


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line of a job's log; `n` counts within the attempt, so that a repeat is known."""

    n: int
    at: float  # milliseconds since the epoch, by Convex's clock
    level: str  # info or error
    text: str


class Queue:
    """This worker's side of the queue in Convex."""

    def __init__(
        self,
        convex: Convex,
        *,
        key: str,
        worker_id: str,
        instance: str,
        lease_time: float,
        redact: Redactor,
    ) -> None:
        self._convex = convex
        self._redact = redact  # a product shows its users what stands in a row
        self._key = key
        self._names = {"workerId": worker_id, "instance": instance}
        self._lease_ms = round(lease_time * 1000)
        # Convex's clock minus `boottime`, from the last answer; before the first, as this host has
        # it: nothing is decided by that, but a crash is written down, and pages are shown.
        self._server_ahead = wall_clock() - boottime()
        self._skew: float | None = None

    def renew(self, *, key: str, redact: Redactor) -> None:
        """From the next call on show this *key*, and keep what *redact* knows out of rows."""
        self._key = key
        self._redact = redact

    @property
    def redact(self) -> Redactor:
        """What keeps secrets out of rows."""
        return self._redact

    @property
    def skew(self) -> float | None:
        """Seconds that Convex's clock is ahead of this host's; None before the first answer.

        For people only: nothing is reckoned with it.
        """
        return self._skew

    @property
    def is_cut_off(self) -> bool:
        """Whether the last call had no answer, or none was made yet."""
        return self._convex.trouble is not None

    @property
    def silences(self) -> int:
        """How many calls Convex did not answer: where it grew, there was an outage."""
        return self._convex.silences

    async def answers(self) -> bool:
        """Ask Convex for next to nothing; return whether it answers at all."""
        try:
            await self._convex.query("queue:pulse", {"workerKey": self._key})
        except Unreachable:
            return False
        except (Refused, LeaseLost):
            return True
        return True

    async def claim(self, first: Callable[[], Awaitable[None]] | None = None) -> Claimed | Idle:
        """Claim the best job that is due. Asks until Convex answers; a lost answer loses no job.

        Before each try *first* is waited for. A job that Convex described wrongly is failed on the
        spot. Raises Refused.
        """
        while True:
            token = secrets.token_urlsafe(24)
            asked, answer = await self._claim_with(token, first)
            if answer.lost:  # it was ours, but we learned of it too late
                logger.warning("a claim's answer came too late: %s", answer.reason)
            elif answer.job is None:
                self._learn(answer.now)
                due = answer.next_run_at
                return Idle(next_in=None if due is None else max(0.0, (due - answer.now) / 1000))
            else:
                deadline = self._deadline(asked, until=answer.lease_until, now=answer.now)
                if claimed := await self._parsed(answer.job, token, deadline):
                    return claimed

    async def _claim_with(
        self, token: str, first: Callable[[], Awaitable[None]] | None
    ) -> tuple[float, "_ClaimAnswer"]:
        """Claim with *token* until there is an answer; return it, and when it was asked for.

        Each try is reckoned by itself: what Convex answers to it holds from its own beginning on.
        """
        arguments = self._names | {"leaseToken": token, "leaseMs": self._lease_ms}

        async def once() -> tuple[float, _ClaimAnswer]:
            if first:
                await first()
            asked = boottime()
            answer = _read(await self.call("claim", arguments), _ClaimAnswer)
            if answer.job is not None:
                _read(answer.job, _ClaimedJob)
            return asked, answer

        return await until_answered(once)

    async def _parsed(self, document: Any, token: str, deadline: float) -> Claimed | None:
        """Return the claimed job, or fail one that cannot be read."""
        claim = _read(document, _ClaimedJob)
        proof = Token(job_id=claim.id, lease_token=token, attempt=claim.attempt)
        try:
            return Claimed(job=Job.from_document(document), token=proof, deadline=deadline)
        except InvalidJob as error:
            logger.error("job %s: %s", proof.job_id, error)  # noqa: TRY400 the text says all
            words = str(error)
            told = Verdict(failure=error.failure, message=words, own=words, pause=0.0)
            with contextlib.suppress(LeaseLost, Refused):  # its lease will run out
                await self.fail(proof, told, deadline=lambda: deadline)
            return None

    async def heartbeat(self, token: Token, *, beat: int, report: Report) -> float:
        """Renew the lease once; return its new deadline. Raises LeaseLost, Refused, Unreachable."""
        asked = boottime()
        arguments = proof(token) | {
            "beat": beat,
            "status": report.status,
            "progress": self._redact(report.progress),
            "currentStep": report.step,
            "totalSteps": TOTAL_STEPS,
        }
        answer = _read(await self.call("heartbeat", arguments), _LeaseAnswer)
        return self._deadline(asked, until=answer.lease_until, now=answer.now)

    async def fail(self, token: Token, verdict: Verdict, *, deadline: Callable[[], float]) -> str:
        """Report a failed attempt; return the job's new status.

        Raises LeaseLost, also when *deadline* passes, and Refused.
        """
        arguments = proof(token) | {
            "class": verdict.failure,
            "message": self._redact(verdict.message),
        }
        if verdict.pause:
            arguments["retryAt"] = round((self.now() + verdict.pause) * 1000)

        async def once() -> str:
            return _read(await self.call("fail", arguments), _StatusAnswer).status

        return await until_answered(once, deadline=deadline)

    async def fail_crashed(self, token: Token, message: str) -> str:
        """Report once that an attempt died with its worker; return the job's new status.

        Raises like `call`.
        """
        arguments = proof(token) | {"class": Crashed.failure, "message": message}
        return _read(await self.call("fail", arguments), _StatusAnswer).status

    async def release(self, token: Token, *, reason: str, deadline: Callable[[], float]) -> None:
        """Give the job back unspent. Raises LeaseLost, also when *deadline* passes, and Refused."""
        arguments = proof(token) | {"reason": reason}
        await until_answered(lambda: self.call("release", arguments), deadline=deadline)

    async def clone_token(self, token: Token, *, deadline: Callable[[], float]) -> str | None:
        """Return what opens the job's private repository, or None where there is nothing.

        Raises TokenUnusable for a stored token of an old form; LeaseLost, also when *deadline*
        passes, and Refused.
        """

        async def once() -> str | None:
            return _read(await self.call("cloneToken", proof(token)), _CloneTokenAnswer).token

        try:
            return await until_answered(once, deadline=deadline)
        except Refused as error:
            if error.code == "token_unusable":
                raise TokenUnusable(error.message) from error
            raise

    async def append_logs(self, token: Token, lines: Sequence[LogLine]) -> bool:
        """Keep *lines* with the job, once; return whether its log is full.

        Raises LeaseLost, Refused and Unreachable: whoever calls decides whether to try again.
        """
        rows = [
            {"n": line.n, "at": line.at, "level": line.level, "msg": self._redact(line.text)}
            for line in lines
        ]
        return _read(
            await self.call("appendLogs", proof(token) | {"lines": rows}), _LogsAnswer
        ).full

    async def report(self, *, version: str, slots: int, busy: int, state: str) -> None:
        """Tell operators once that this worker is there, and in *state* (words).

        Raises Refused and Unreachable.
        """
        told = {"version": version, "slots": slots, "busy": busy, "state": self._redact(state)}
        await self.call("report", self._names | told, aside=True)

    async def call(self, function: str, arguments: dict[str, Any], *, aside: bool = False) -> Any:
        """Call a mutation of the queue once, with this worker's key; raise what it raises."""
        return await self._convex.mutation(
            f"queue:{function}", {"workerKey": self._key} | arguments, aside=aside
        )

    async def store(self, token: Token, content: bytes, sha256: str) -> str:
        """Announce and upload *content* once; return its storage id. Raises like `call`."""
        answer = await self.call("uploadUrl", proof(token) | {"sha256": sha256})
        return await self._convex.upload(_read(answer, _UrlAnswer).url, content)

    def now(self) -> float:
        """Return seconds since the epoch by Convex's clock, as far as it is known."""
        return boottime() + self._server_ahead

    def _deadline(self, asked: float, *, until: float, now: float) -> float:
        """Return when a lease *until* (ms, by Convex's clock) ends on ours, to be on the safe side.

        It is reckoned from when it was *asked* for: Convex's *now* was later than that.
        """
        self._learn(now)
        return asked + (until - now) / 1000

    def _learn(self, now: float) -> None:
        """Take from an answer what time it is for Convex (ms)."""
        self._server_ahead = now / 1000 - boottime()
        known, self._skew = self._skew or 0.0, now / 1000 - wall_clock()
        if abs(self._skew) > LARGEST_SKEW >= abs(known):
            logger.warning(
                "this host's clock and Convex's are %.0f s apart; jobs are not harmed, but times in"
                " this log are: is the time synchronised?",
                abs(self._skew),
            )


def proof(token: Token) -> dict[str, Any]:
    """Return the three arguments that every call about a claimed job has."""
    return {"jobId": token.job_id, "leaseToken": token.lease_token, "attempt": token.attempt}


# What the answers hold. One that does not is as good as none: it is asked for again.


class _LeaseAnswer(msgspec.Struct, rename="camel"):
    lease_until: float
    now: float


class _ClaimAnswer(msgspec.Struct, rename="camel"):
    now: float
    lease_until: float = 0.0
    lost: bool = False
    reason: str = ""
    job: Any = None
    next_run_at: float | None = None


class _ClaimedJob(msgspec.Struct):
    id: str
    attempt: int


class _UrlAnswer(msgspec.Struct):
    url: str


class _CloneTokenAnswer(msgspec.Struct):
    token: str | None = None


class _LogsAnswer(msgspec.Struct):
    full: bool = False


class _StatusAnswer(msgspec.Struct):
    status: str


_Type = TypeVar("_Type")


def _read(answer: Any, kind: type[_Type]) -> _Type:
    """Return *answer* as a *kind*; raise Unreachable for one that is none."""
    try:
        return msgspec.convert(answer, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Unreachable(f"Convex answered what cannot be read: {error}") from error
