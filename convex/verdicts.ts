/**
 * What becomes of a job whose attempt ended without a result.
 *
 * Pure decisions: the clock and the chance are arguments.
 */

import { DAY, DEFAULT_MAX_ATTEMPTS, HOUR, MINUTE, SECOND } from "./bounds";
import type { Doc } from "./server";

const FINAL = new Set([
  "repository_missing",
  "ref_missing",
  "repository_empty",
  "invalid_job",
  "too_large",
  "token_unusable",
]);
/** Once may be bad luck; the second time in a row nothing would come of a third. */
const TRIED_ONCE_MORE = new Set(["no_result"]);
const SNOOZED = new Set(["rate_limited", "overloaded", "credential_refused"]);

const PATIENCE = 7 * DAY;
const QUICK_RETURNS = 4;
const GAVE_UP = "gave_up_waiting";

/** For a job that ended: a front end may put it back, and it then has all of its time again. */
export const patienceAnew = { firstClaimedAt: undefined, returns: undefined };

/** What a verdict depends on. */
export type Standing = {
  /** The attempts that were spent, this one included if it was. */
  attempts: number;
  maxAttempts: number;
  /** Whether this attempt was spent: only the first heartbeat does that. */
  spent: boolean;
  /** How often the job was given back before. */
  returns: number;
  firstClaimedAt: number;
  /** The class of the failure before this one. */
  lastClass?: string;
};

export type Verdict = { attempts: number; returns: number } & (
  | { status: "pending"; runAt: number }
  | { status: "dead"; gaveUpWaiting: boolean }
);

/** What a verdict on the running attempt of `job` depends on. */
export function standingOf(job: Doc<"jobs">, now: number): Standing {
  return {
    attempts: job.attempts ?? 0,
    maxAttempts: job.maxAttempts ?? DEFAULT_MAX_ATTEMPTS,
    spent: (job.beat ?? 0) > 0,
    returns: job.returns ?? 0,
    firstClaimedAt: job.firstClaimedAt ?? now,
    lastClass: job.errorClass,
  };
}

/** What `verdict` changes on the row of a job. A release is no failure: `failure` is null. */
export function changesAfter(
  verdict: Verdict,
  failure: { class: string; message: string } | null,
  now: number,
): Partial<Doc<"jobs">> {
  const { attempts, returns, status } = verdict;
  const changes = { attempts, returns, status, updatedAt: now };
  const described = failure && { lastError: failure.message, errorClass: failure.class };
  if (verdict.status === "pending") return { ...changes, ...described, runAt: verdict.runAt };
  const error = verdict.gaveUpWaiting ? gaveUp(failure?.message) : failure?.message;
  const errorClass = verdict.gaveUpWaiting ? GAVE_UP : failure?.class;
  return { ...changes, ...patienceAnew, error, lastError: error, errorClass, completedAt: now };
}

function gaveUp(message = "the workers gave the job back"): string {
  return `gave up 7 days after the first claim; the last time: ${message}`;
}

/** The verdict on a failure that a worker reported. `jitter` is from 0 to 1. */
export function afterFailure(
  standing: Standing,
  failure: { class: string; retryAt?: number },
  now: number,
  jitter: number,
): Verdict {
  const isRepeated = TRIED_ONCE_MORE.has(failure.class) && failure.class === standing.lastClass;
  if (FINAL.has(failure.class) || isRepeated) return dead(standing);
  const delayed = now + retryDelay(standing.attempts, jitter);
  if (SNOOZED.has(failure.class)) {
    const wanted = failure.retryAt ?? delayed;
    return afterReturn(standing, now, Math.min(Math.max(wanted, now), now + PATIENCE));
  }
  return standing.spent ? retried(standing, delayed) : afterReturn(standing, now, delayed);
}

/** The verdict on a lease that ended because nobody renewed it. */
export function afterExpiry(standing: Standing, now: number): Verdict {
  return standing.spent ? retried(standing, now) : afterReturn(standing, now, now);
}

/**
 * The verdict on a job that was given back through no fault of its own.
 *
 * The attempt is not spent. A job that comes back again and again waits longer each time, and
 * dies only when a week has passed since it was first claimed.
 */
export function afterReturn(standing: Standing, now: number, runAt: number): Verdict {
  const attempts = standing.attempts - (standing.spent ? 1 : 0);
  const returns = standing.returns + 1;
  if (now - standing.firstClaimedAt >= PATIENCE) {
    return { status: "dead", attempts, returns, gaveUpWaiting: true };
  }
  return { status: "pending", attempts, returns, runAt: Math.max(runAt, now + holdback(returns)) };
}

function retried(standing: Standing, runAt: number): Verdict {
  const { attempts, maxAttempts, returns } = standing;
  return attempts >= maxAttempts ? dead(standing) : { status: "pending", attempts, returns, runAt };
}

function dead({ attempts, returns }: Standing): Verdict {
  return { status: "dead", attempts, returns, gaveUpWaiting: false };
}

/** How long to wait after `attempts` spent ones: doubling from 5 s to 10 min, and up to 5 s more. */
function retryDelay(attempts: number, jitter: number): number {
  const doublings = Math.max(attempts - 1, 0);
  return Math.min(5 * SECOND * 2 ** doublings, 10 * MINUTE) + Math.floor(jitter * 5 * SECOND);
}

/** The least wait of a job that was given back `returns` times: from the fifth on, 1 min to 1 h. */
function holdback(returns: number): number {
  return returns <= QUICK_RETURNS ? 0 : Math.min(MINUTE * 2 ** (returns - QUICK_RETURNS - 1), HOUR);
}
