# ruff: noqa: D401 - a rule's docstring says what holds, as a test's does
"""Workers, jobs and time at random, and what the protocol says must come of each step.

Larger than what can be searched to its end: more workers, jobs and documents, priorities, any
time. Every token that was ever given may call again at any time, as a slow network would have it.
"""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from tests.model.functions import Functions, Refused

START = 1_767_571_200_000
SECOND = 1000
MINUTE = 60 * SECOND
FIRST_LEASE = 30 * SECOND
GRACE = 10 * MINUTE
GAP = 150 * SECOND
HOLD = 2 * MINUTE
IN_FLIGHT = ("claimed", "cloning", "analyzing", "gathering")

FINAL = ("invalid_job", "too_large")
SNOOZED = ("rate_limited", "credential_refused")
ONCE_MORE = ("no_result",)
RETRIED = ("claude_failed", "timeout", "crash")
failures = st.sampled_from((*FINAL, *SNOOZED, *ONCE_MORE, *RETRIED))

shortly = st.sampled_from((1, SECOND, 5 * SECOND, 29_999, FIRST_LEASE, MINUTE))
pauses = shortly | shortly | st.sampled_from((5 * MINUTE, GRACE)) | st.integers(1, 20 * MINUTE)
often = st.sampled_from((True, True, True, False))


@dataclass(slots=True)
class Job:
    """What the deployment has promised about a job."""

    id: str
    priority: int
    max_attempts: int
    order: int
    spent: int = 0
    returns: int = 0
    attempt: int = 0
    last_class: str | None = None
    holder: str | None = None  # the token that may hand in a result
    lease: int = 0
    exclusive: int = 0  # until when nobody else may have it
    result: list[str] | None = None


@dataclass(slots=True)
class Claim:
    """A claim that was answered with a job, for good: its token never goes away."""

    token: str
    job: Job
    attempt: int
    lease_ms: int
    contents: list[str]
    beat: int = 0
    staged: dict[int, str] = field(default_factory=dict)
    settled: tuple[str, dict[str, Any]] | None = None

    @property
    def proof(self) -> dict[str, Any]:
        """The three arguments of every call about the job."""
        return {"jobId": self.job.id, "leaseToken": self.token, "attempt": self.attempt}

    def documents(self, *, draft: bool = False) -> list[dict[str, Any]]:
        """What it hands in."""
        return [
            {
                "index": index,
                "slug": f"chapter-{index}",
                "title": f"Chapter {index}",
                "kind": "chapter",
                "chapterIndex": index,
                "content": f"draft of {content}" if draft else content,
            }
            for index, content in enumerate(self.contents)
        ]


def holdback(returns: int) -> int:
    """How long a job that was given back so often waits at least."""
    return 0 if returns <= 4 else min(MINUTE * 2 ** (returns - 5), 60 * MINUTE)


class Protocol(RuleBasedStateMachine):
    """The functions against a second, smaller telling of the protocol."""

    functions: Functions

    jobs = Bundle("jobs")
    claims = Bundle("claims")

    def __init__(self) -> None:
        """An empty deployment whose pulse beats."""
        super().__init__()
        self.now = START
        self.known: list[Job] = []
        self.claimed: list[Claim] = []
        self.tokens = 0
        self.pulse = START
        self.resumed: int | None = None
        self.functions.reset(START)
        self.functions.call("upkeep:beat")

    @initialize(target=jobs)
    def first_job(self) -> Job:
        """Most of what can happen needs one."""
        return self.new_job(0, 2, 0)

    # Operators.

    @rule(
        target=jobs,
        priority=st.integers(-1, 1),
        attempts=st.integers(1, 3),
        delay=st.sampled_from((0, 0, 0, MINUTE)),
    )
    def enqueue(self, priority: int, attempts: int, delay: int) -> Job:
        """A new job waits for its turn."""
        return self.new_job(priority, attempts, delay)

    def new_job(self, priority: int, attempts: int, delay: int) -> Job:
        """Put a job in."""
        answer = self.functions.operate(
            "enqueue",
            prompt="Describe it.",
            cloneUrl="https://example.org/a.git",
            priority=priority,
            maxAttempts=attempts,
            runAt=self.now + delay,
        )
        order = len(self.known)
        job = Job(id=answer["jobId"], priority=priority, max_attempts=attempts, order=order)
        self.known.append(job)
        return job

    @rule(job=jobs, is_retry=st.booleans())
    def steer(self, job: Job, is_retry: bool) -> None:  # noqa: FBT001 - by hypothesis
        """An operator cancels a job or has it tried again."""
        if is_retry:
            self.retry(job)
        else:
            self.cancel(job)

    def cancel(self, job: Job) -> None:
        """A cancelled job is nobody's; an ended one stays what it is."""
        status = self.row(job)["status"]
        answer = self.functions.operate("cancel", jobId=job.id)
        if status in {"completed", "dead", "canceled"}:
            assert answer["already"] == status
            return
        assert self.row(job)["status"] == "canceled"
        job.holder, job.lease, job.exclusive, job.returns = None, 0, 0, 0

    def retry(self, job: Job) -> None:
        """A retried job has all of its attempts, and takes nothing from who may hand in."""
        status = self.row(job)["status"]
        if status not in {"pending", "dead", "canceled"}:
            self.refused("invalid", "jobs:retry", operatorKey=self.operator_key, jobId=job.id)
            return
        self.functions.operate("retry", jobId=job.id)
        row = self.row(job)
        assert (row["status"], row["runAt"]) == ("pending", self.now)
        job.spent, job.returns, job.last_class = 0, 0, None

    operator_key = "the model's operator key"

    # Workers.

    @rule(
        target=claims,
        worker=st.integers(1, 5),
        documents=st.integers(1, 3),
        lease=st.sampled_from((10, 30, 300)),
    )
    def claim(self, worker: int, documents: int, lease: int) -> Claim | MultipleResults[Claim]:
        """A claim gets the job whose turn it is, whenever there is one."""
        self.tokens += 1
        token = f"token-{self.tokens:012}"
        due = [
            (-job.priority, row["runAt"], job.order, job)
            for job in self.known
            if (row := self.row(job))["status"] == "pending" and row["runAt"] <= self.now
        ]
        answer = self.claim_with(token, worker, lease * SECOND)
        if not due:
            assert answer["job"] is None
            return multiple()
        job: Job = min(due, key=lambda turn: turn[:3])[3]
        assert answer["job"]["id"] == job.id
        assert answer["job"]["attempt"] == job.attempt + 1
        assert job.exclusive <= self.now, "somebody still holds it"
        job.attempt += 1
        job.holder = token
        job.lease = job.exclusive = self.now + min(lease * SECOND, FIRST_LEASE)
        contents = [f"document {n} of {token}" for n in range(documents)]
        claim = Claim(token, job, job.attempt, lease * SECOND, contents)
        self.claimed.append(claim)
        return claim

    @rule(claim=claims)
    def claim_again(self, claim: Claim) -> None:
        """A token that was used gets its job while the lease runs, and never another one."""
        answer = self.claim_with(claim.token, 1, claim.lease_ms)
        if self.holds(claim):
            assert answer["job"]["id"] == claim.job.id
            assert answer["job"]["attempt"] == claim.attempt
        else:
            assert answer.get("lost") is True

    @rule(claim=claims, late=st.booleans(), status=st.sampled_from((None, *IN_FLIGHT[1:])))
    def heartbeat(self, claim: Claim, late: bool, status: str | None) -> None:  # noqa: FBT001 - by hypothesis
        """A heartbeat under a lease renews it, a late one changes nothing."""
        beat = max(claim.beat, 1) if late else claim.beat + 1
        is_newer = beat > claim.beat
        args = {"beat": beat} if status is None else {"beat": beat, "status": status}
        if not self.holds(claim):
            self.lost("heartbeat", claim, **args)
            return
        job, before = claim.job, self.row(claim.job)
        self.functions.work("heartbeat", **claim.proof, **args)
        row = self.row(job)
        if not is_newer:
            assert row == before
            return
        job.spent += claim.beat == 0
        claim.beat = beat
        job.lease = max(job.lease, self.now + claim.lease_ms)
        assert row["leaseUntil"] == job.lease
        assert IN_FLIGHT.index(row["status"]) >= IN_FLIGHT.index(before["status"])
        job.exclusive = job.lease + (GRACE if row["status"] == "gathering" else 0)

    @rule(claim=claims, which=st.sets(st.integers(0, 3), min_size=1), draft=st.booleans())
    def stage(self, claim: Claim, which: set[int], draft: bool) -> None:  # noqa: FBT001 - by hypothesis
        """Who may hand in may stage, lease over or not."""
        docs = [doc for doc in claim.documents(draft=draft) if doc["index"] in which]
        if not docs:
            return
        if claim.job.holder != claim.token:
            self.lost("stageDocs", claim, docs=docs)
            return
        self.functions.work("stageDocs", **claim.proof, docs=docs)
        claim.staged |= {doc["index"]: doc["content"] for doc in docs}

    @rule(claim=claims, first=st.booleans())
    def complete(self, claim: Claim, first: bool) -> None:  # noqa: FBT001 - by hypothesis
        """A result is taken once, whole, from the last who claimed."""
        if not first:
            self.stage(claim, {0, 1, 2, 3}, draft=False)
        args = {"digests": self.functions.digests(claim.documents()), "message": "done"}
        if claim.settled is not None and claim.settled[0] == "complete":
            assert self.functions.work("complete", **claim.proof, **args)["status"] == "completed"
            return
        if claim.job.holder != claim.token:
            self.lost("complete", claim, **args)
            return
        contents = enumerate(claim.contents)
        missing = [n for n, content in contents if claim.staged.get(n) != content]
        if missing:
            data = self.refused("not_staged", "queue:complete", **self.keyed(claim), **args)
            assert data["missing"] == missing
            return
        self.functions.work("complete", **claim.proof, **args)
        assert self.row(claim.job)["status"] == "completed"
        claim.settled = ("complete", {})
        claim.job.result = claim.contents
        self.ended(claim.job)

    @rule(claim=claims, failure=failures | st.none())
    def give_up(self, claim: Claim, failure: str | None) -> None:
        """An attempt ends without a result."""
        if failure is None:
            self.release(claim)
        else:
            self.fail(claim, failure)

    def fail(self, claim: Claim, failure: str) -> None:
        """What becomes of the job is decided by the class alone."""
        if self.settle("fail", claim, **{"class": failure, "message": "no"}):
            job, was_spent = claim.job, claim.beat > 0
            delay = min(5 * SECOND * 2 ** max(job.spent - 1, 0), 10 * MINUTE)
            is_last = was_spent and job.spent >= job.max_attempts
            is_repeated = failure in ONCE_MORE and job.last_class == failure
            if failure in FINAL or is_repeated:
                self.dies(job)
            elif failure in SNOOZED or not was_spent:
                self.given_back(job, was_spent=was_spent, delay=delay)
            elif is_last:
                self.dies(job)
            else:
                self.waits(job, delay)
            job.last_class = failure
            self.ended(job)

    def release(self, claim: Claim) -> None:
        """A job that is given back is due at once and has lost nothing."""
        if self.settle("release", claim):
            self.given_back(claim.job, was_spent=claim.beat > 0, delay=0)
            self.ended(claim.job)

    @precondition(lambda self: self.live())
    @rule(which=st.integers(0, 9), to_do=st.sampled_from(("beat", "draft", "stage", "complete")))
    def work(self, which: int, to_do: str) -> None:
        """One of those who may hand in goes on with its work."""
        live = self.live()
        claim = live[which % len(live)]
        match to_do:
            case "beat":
                self.heartbeat(
                    claim, late=False, status=IN_FLIGHT[which % 4] if which % 4 else None
                )
            case "draft":
                self.stage(claim, {0, 1, 2, 3}, draft=True)
            case "stage":
                self.stage(claim, {which % 4, 0}, draft=False)
            case "complete":
                self.complete(claim, first=which % 2 == 0)

    def live(self) -> list[Claim]:
        """Return the claims that may hand in."""
        return [claim for claim in self.claimed if claim.job.holder == claim.token]

    # Time.

    @rule(pause=pauses, alive=often, watched=often)
    def wait(self, pause: int, alive: bool, watched: bool) -> None:  # noqa: FBT001 - by hypothesis
        """Time goes on, with the deployment and its scheduler or without them."""
        self.now += pause
        self.functions.clock(self.now)
        if not alive:
            return
        self.functions.call("upkeep:beat")
        if self.now - self.pulse > GAP:
            self.resumed = self.now
        self.pulse = self.now
        while watched and self.scheduled(0):
            pass

    @rule(which=st.integers(0, 9))
    def run_scheduled(self, which: int) -> None:
        """One of the scheduled calls runs, in any order."""
        self.scheduled(which)

    @rule()
    def sweep(self) -> None:
        """The second net."""
        before = self.statuses()
        self.functions.call("upkeep:sweep")
        self.put_back(before, may_be_held=True)

    # What must hold whatever happens.

    @invariant()
    def promises_are_kept(self) -> None:
        """Every job is where the protocol says it is."""
        docs = self.functions.rows("docs")
        for job in self.known:
            row = self.row(job)
            assert row["attempts"] == job.spent
            assert row["attempt"] == job.attempt
            assert row.get("leaseToken") == job.holder
            assert (row["status"] == "completed") == (job.result is not None)
            seen = sorted(doc["content"] for doc in docs if doc["jobId"] == job.id)
            assert seen == sorted(job.result or [])
            if job.exclusive > self.now:
                assert row["status"] in IN_FLIGHT
            if row["status"] == "pending":
                assert "runAt" in row
            elif row["status"] in IN_FLIGHT:
                assert row["expiresAt"] == job.exclusive

    # Helpers of the rules.

    def scheduled(self, which: int) -> bool:
        """Run one of the scheduled calls whose time has come; whether there was one."""
        before = self.statuses()
        ran = self.functions.due(which)
        self.put_back(before, may_be_held=False)
        return ran is not None

    def row(self, job: Job) -> dict[str, Any]:
        """Return the job as it is stored."""
        return next(row for row in self.functions.rows("jobs") if row["_id"] == job.id)

    def statuses(self) -> dict[str, dict[str, Any]]:
        """Return all jobs as they are stored."""
        return {row["_id"]: row for row in self.functions.rows("jobs")}

    def claim_with(self, token: str, worker: int, lease_ms: int) -> dict[str, Any]:
        """Claim with *token*."""
        names = {"workerId": "model", "instance": f"model-{worker}"}
        answer: dict[str, Any] = self.functions.work(
            "claim", leaseToken=token, leaseMs=lease_ms, **names
        )
        return answer

    def holds(self, claim: Claim) -> bool:
        """Whether the lease of *claim* runs."""
        return claim.job.holder == claim.token and self.now < claim.job.lease

    def keyed(self, claim: Claim) -> dict[str, Any]:
        """The key and the three arguments."""
        return {"workerKey": "the model's worker key", **claim.proof}

    def lost(self, name: str, claim: Claim, **args: Any) -> None:
        """The call is refused, and nothing is written."""
        before = self.statuses()
        self.refused("lease_lost", f"queue:{name}", **self.keyed(claim), **args)
        assert self.statuses() == before

    def refused(self, code: str, name: str, **args: Any) -> dict[str, Any]:
        """The call is refused with *code*."""
        with pytest.raises(Refused) as refusal:
            self.functions.call(name, **args)
        assert refusal.value.data["code"] == code
        return refusal.value.data

    def settle(self, name: str, claim: Claim, **args: Any) -> bool:
        """End the attempt; whether that was new."""
        if claim.settled is not None and claim.settled[0] == name and self.latest(claim):
            before = self.statuses()
            answer = self.functions.work(name, **claim.proof, **args)
            assert answer | {"now": 0} == claim.settled[1] | {"now": 0}
            assert self.statuses() == before
            return False
        if not self.holds(claim):
            self.lost(name, claim, **args)
            return False
        claim.settled = (name, self.functions.work(name, **claim.proof, **args))
        return True

    def latest(self, claim: Claim) -> bool:
        """Whether no other token has ended an attempt of the job since."""
        settled = self.row(claim.job).get("settled")
        return settled is not None and settled["token"] == claim.token

    def ended(self, job: Job) -> None:
        """Nobody holds it any more."""
        job.holder, job.lease, job.exclusive = None, 0, 0

    def dies(self, job: Job) -> None:
        """See that it has ended without a result."""
        assert self.row(job)["status"] == "dead"
        job.returns = 0

    def waits(self, job: Job, delay: int) -> None:
        """See that it is pending, and due after *delay*."""
        row = self.row(job)
        assert (row["status"], row["runAt"]) == ("pending", self.now + delay)

    def given_back(self, job: Job, *, was_spent: bool, delay: int) -> None:
        """See that it is pending, its attempt unspent."""
        job.spent -= was_spent
        job.returns += 1
        self.waits(job, max(delay, holdback(job.returns)))

    def put_back(self, before: dict[str, dict[str, Any]], *, may_be_held: bool) -> None:
        """Jobs that changed were nobody's any more, and went where the table says."""
        is_held = self.now - self.pulse > GAP
        is_held |= self.resumed is not None and self.now < self.resumed + HOLD
        for job in self.known:
            row = self.row(job)
            if row == before[job.id]:
                continue
            assert job.exclusive <= self.now, "somebody still holds it"
            assert not (is_held and may_be_held), "an outage has just ended"
            was_spent = before[job.id]["beat"] > 0
            if was_spent and job.spent >= job.max_attempts:
                self.dies(job)
            elif was_spent:
                self.waits(job, 0)
            else:
                self.given_back(job, was_spent=False, delay=0)
            job.lease = job.exclusive = 0
            job.last_class = "lease_expired"
