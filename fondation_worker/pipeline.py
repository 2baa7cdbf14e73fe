"""The straight line of one job: clone, analyse, hand in."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from fondation_worker import claude, events
from fondation_worker.board import Board
from fondation_worker.claims import Claims
from fondation_worker.clock import boottime
from fondation_worker.clone import Checkout, clone
from fondation_worker.errors import JobError, LeaseLost, Refused, TimedOut
from fondation_worker.job import Source, Token
from fondation_worker.lease import Lease, held
from fondation_worker.life import Life
from fondation_worker.livelog import LiveLog, live_log
from fondation_worker.metrics import Metrics
from fondation_worker.outbox import Outbox
from fondation_worker.queue import Claimed, Queue, Report
from fondation_worker.result import Result, documents_from
from fondation_worker.runner import Room
from fondation_worker.trace import Seen, Trace
from fondation_worker.treesize import Limits
from fondation_worker.verdict import Verdict, verdict
from fondation_worker.workspace import Workspace, workspace

logger = logging.getLogger(__name__)

RELEASE_LIMIT = 5.0  # seconds that giving a job back may take while shutting down


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What every job of this worker is done with. Durations are seconds."""

    queue: Queue
    board: Board
    room: Room
    limits: claude.Limits
    claude: claude.Setup
    life: Life
    claims: Claims
    outbox: Outbox
    metrics: Metrics
    seen: Seen
    allow_local: bool
    lease_time: float
    job_timeout: float
    clone_timeout: float
    clone_limits: Limits


@dataclass(frozen=True, slots=True)
class Context:
    """One attempt, and who is told how far it is."""

    claimed: Claimed
    lease: Lease
    log: LiveLog
    trace: Trace

    def listeners(self, tools: Tools) -> claude.Listeners:
        """Return who is told what is seen of the run."""
        return claude.Listeners(
            progress=lambda words: self.lease.report(status="analyzing", progress=words, step=2),
            log=self.log.say,
            metrics=tools.metrics,
            trace=self.trace,
            seen=tools.seen,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnd:
    """How a job ended here."""

    words: str  # for people
    outcome: str  # one of `metrics.FAILED_OUTCOMES`, where there is a verdict, or OTHER_OUTCOMES
    verdict: Verdict | None = None  # what Convex was told of a failure


async def run_job(
    claimed: Claimed,
    tools: Tools,
    trace: Trace,
    *,
    waits: int,
    stopped: Callable[[JobEnd], None] = lambda _: None,
) -> JobEnd:
    """Do one claimed job, from clone to a result that Convex has taken, while its lease holds.

    Returns how it ended, and leaves in *trace* what is seen on the way; *waits* is how many
    failures in a row had to wait before this one. A lost lease writes nothing. On cancel the run is
    killed and the job given back, within seconds, before the cancellation goes on; but a finished
    result stays in the outbox, for the next start to hand in. *stopped* is told which.
    """
    lease: Lease | None = None
    end: JobEnd | None = None
    tools.claims.remember(claimed.token)
    try:
        async with held(
            claimed.deadline,
            partial(_renew, tools.queue, claimed.token),
            interval=tools.board.heartbeat_interval,
            lease_time=tools.lease_time,
            renewed=tools.metrics.renewal,
        ) as lease:
            with tools.board.shown(claimed, lease, trace):
                async with live_log(tools.queue, claimed.token) as log:
                    context = Context(claimed, lease, log, trace)
                    outcome = await _outcome(context, tools, waits=waits)
                    await _last_words(log, outcome)
                    with tools.metrics.step("gathering"):
                        end = await _settle(claimed, lease, outcome, tools)
                    return end  # noqa: RET504 a stop may come before the log has ended
    except (LeaseLost, Refused) as lost:  # refused: the first renewal, with a key that has gone
        words = "%s; the run was killed and nothing is written"
        logger.warning(words, lost, extra=events.LEASE_LOST.extra)
        tools.claims.forget(claimed.token)
        return JobEnd(words=str(lost), outcome=_loss(lost))
    except asyncio.CancelledError:
        if end:  # it was settled by then
            stopped(end)
        elif lease is None or lease.cancels:
            stopped(await _give_back(claimed, lease, tools))
        else:
            stopped(_left(claimed.token, tools.outbox))
        raise
    except Exception:  # one job's fault must not end the others
        words = "a fault of this program; the job's lease will run out"
        logger.exception(words, extra=events.FAULT.extra)
        return JobEnd(words="a fault of this program", outcome="fault")
    finally:
        tools.outbox.leave(claimed.token)  # the lease may be lost just as a result is there


def _loss(error: Exception) -> str:
    """Return the outcome of an attempt that Convex does not let go on."""
    return "canceled" if isinstance(error, LeaseLost) and error.reason == "canceled" else "lost"


async def _renew(queue: Queue, token: Token, beat: int, report: Report) -> float:
    return await queue.heartbeat(token, beat=beat, report=report)


async def _outcome(context: Context, tools: Tools, *, waits: int) -> Result | Verdict:
    """Return what the attempt came to; only a cancellation leaves as an exception.

    A result counts from the moment it is there: neither the time limit nor the lease's end can take
    it away while the workspace is being removed.
    """
    claimed, lease = context.claimed, context.lease
    try:
        async with workspace(tools.life.work(), claimed.token) as places:
            result = await _in_time(context, tools, places)
            lease.work_is_done()
            context.log.hurry()
            await tools.outbox.put(claimed.token, result)
            lease.report(status="gathering", progress="saving the result", step=3)
            lease.hurry()  # what ends in `gathering` is not given away for some minutes
    except JobError as error:
        return verdict(error, in_a_row=waits + 1, now=tools.queue.now())
    except Exception as bug:
        logger.exception("a fault of this program", extra=events.FAULT.extra)
        return verdict(bug, in_a_row=waits + 1, now=tools.queue.now())
    else:
        return result


async def _in_time(context: Context, tools: Tools, places: Workspace) -> Result:
    """Return the analysis, or raise TimedOut when it takes longer than the job may."""
    limit = context.claimed.job.time_limit(tools.job_timeout)
    scope = asyncio.timeout(limit)
    try:
        async with scope:
            return await _analysis(context, tools, places)
    except TimeoutError as error:
        if not scope.expired():
            raise
        raise TimedOut(f"the run took longer than {limit:g} s (timeoutMs, JOB_TIMEOUT)") from error


async def _analysis(context: Context, tools: Tools, places: Workspace) -> Result:
    """Clone the repository, run Claude over it, return the documents. Raises JobError."""
    job = context.claimed.job
    source, model = job.source(allow_local=tools.allow_local), job.chosen_model()
    started = boottime()
    with tools.metrics.step("cloning"):
        checkout = await _checkout(context, tools, places, source)
    context.lease.report(status="analyzing", progress="starting Claude", step=2)
    order = claude.order_for(tools.claude, job.prompt, model, checkout.directory, places)
    with tools.metrics.step("analyzing"):
        listeners = context.listeners(tools)
        answer = await claude.analyse(tools.room, order, listeners=listeners, limits=tools.limits)
    logger.info(
        "analysed in %.1f s: %s",
        boottime() - started, answer.usage.in_words(), extra=events.ANALYSED.extra,
    )  # fmt: skip
    return Result(
        documents=documents_from(answer.text, fallback_title=job.repository),
        commit=checkout.commit,
        usage=answer.usage,
    )


async def _checkout(context: Context, tools: Tools, places: Workspace, source: Source) -> Checkout:
    """Clone the repository. Raises JobError."""
    claimed, lease, repository = context.claimed, context.lease, context.claimed.job.repository
    lease.report(status="cloning", progress=f"cloning {repository}", step=1)
    started = boottime()
    checkout = await clone(
        source,
        places.tree,
        home=places.home,
        time_limit=tools.clone_timeout,
        limits=tools.clone_limits,
        token=partial(tools.queue.clone_token, claimed.token, deadline=lambda: lease.deadline),
    )
    seconds = boottime() - started
    tools.metrics.cloned(seconds, checkout.size)
    logger.info(
        "cloned %s at %s, %d files, in %.1f s",
        repository, checkout.commit, checkout.files, seconds, extra=events.CLONED.extra,
    )  # fmt: skip
    words = f"cloned {repository} at {checkout.commit}, {checkout.files} files"
    context.log.say("info", words)
    return checkout


async def _last_words(log: LiveLog, outcome: Result | Verdict) -> None:
    """Let the job's log end before its attempt does: what is settled takes no lines.

    A result does not wait for that: its last lines are on their way while it is handed in.
    """
    if isinstance(outcome, Verdict):
        log.say("error", f"failed ({outcome.failure}): {outcome.message}")
        await log.flush()


async def _settle(
    claimed: Claimed, lease: Lease, outcome: Result | Verdict, tools: Tools
) -> JobEnd:
    """Tell Convex what the attempt came to; a result until it is taken or refused."""
    try:
        if isinstance(outcome, Result):
            await tools.outbox.deliver(claimed.token)
            return JobEnd(words="completed", outcome="completed")
        status = await tools.queue.fail(claimed.token, outcome, deadline=lambda: lease.deadline)
        logger.warning(
            "failed (%s), now %s: %s",
            outcome.failure, status, outcome.message, extra=events.FAILED.extra,
        )  # fmt: skip
        end = JobEnd(words=f"failed ({outcome.failure})", outcome=status, verdict=outcome)
    except (LeaseLost, Refused) as error:
        what = "result" if isinstance(outcome, Result) else "failure"
        words = "Convex does not take the %s: %s"
        logger.error(words, what, error, extra=events.LEASE_LOST.extra)  # noqa: TRY400 no fault of ours: the text says all
        end = JobEnd(
            words=f"{what} not taken",
            outcome="refused" if isinstance(outcome, Result) else _loss(error),
            verdict=outcome if isinstance(outcome, Verdict) else None,
        )
    tools.claims.forget(claimed.token)
    return end


def _left(token: Token, outbox: Outbox) -> JobEnd:
    """Say what becomes of a result that a stop leaves behind."""
    if outbox.is_on_disk(token):
        words = "stopped before Convex took the result; the next start hands it in"
        logger.warning(words, extra=events.RESULT_WAITS.extra)
        return JobEnd(words="stopped, with a result", outcome="kept")
    words = "stopped before Convex took the result; it is not on disk, and lost"
    logger.error(words, extra=events.RESULT_LOST.extra)
    return JobEnd(words="stopped, and the result is lost", outcome="lost")


async def _give_back(claimed: Claimed, lease: Lease | None, tools: Tools) -> JobEnd:
    """Release the job while shutting down; if that fails its lease runs out by itself."""
    deadline = lease.deadline if lease else claimed.deadline
    try:
        async with asyncio.timeout(RELEASE_LIMIT):
            await tools.queue.release(claimed.token, reason="shutdown", deadline=lambda: deadline)
        tools.claims.forget(claimed.token)
        logger.info("released: another worker can take it", extra=events.RELEASED.extra)
    except LeaseLost as lost:
        tools.claims.forget(claimed.token)
        logger.info("not released, because it is not ours any more: %s", lost)
        return JobEnd(words=str(lost), outcome=_loss(lost))
    except (TimeoutError, Refused) as error:  # the claim stays on disk: the next start reports it
        logger.warning("could not be released (%s); its lease will run out", str(error) or "late")
        return JobEnd(words="stopped, not given back", outcome="lost")
    return JobEnd(words="stopped", outcome="released")
