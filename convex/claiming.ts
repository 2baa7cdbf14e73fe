/**
 * Which job is next, and giving it to a worker.
 *
 * A claim writes the job, one row of its own and one scheduled expiry; no counter and no row that
 * other claims write, so that claims conflict only over the job itself.
 */

import { DEFAULT_MAX_ATTEMPTS } from "./bounds";
import type { LostReason } from "./errors";
import { attemptOf, firstLeaseUntil, leaseRuns, lostReason } from "./leases";
import { scheduleExpiry } from "./scheduling";
import type { Doc, MutationCtx, QueryCtx } from "./server";
import { type Source, sourceOf } from "./sources";

type Job = Doc<"jobs">;

export type Claim = { workerId: string; instance: string; leaseToken: string; leaseMs: number };

/** The rank that a front end's rows count as, which have none. */
const UNRANKED = 0;
/** Not that of the lowest priority: a row that an application wrote must not wait for ever. */
const LAST_RANK = Number.MAX_SAFE_INTEGER;

/** The answer to a token that claimed before, or null for a new one. */
export async function claimedBefore(ctx: MutationCtx, leaseToken: string, now: number) {
  const row = await attemptOf(ctx, leaseToken);
  if (row === null) return null;
  const lost = (reason: LostReason) => ({ lost: true as const, reason, now });
  const job = await ctx.db.get(row.jobId);
  if (job === null) return lost("gone");
  const reason = lostReason(job, { leaseToken, attempt: row.attempt });
  if (reason !== null) return lost(reason);
  if (!leaseRuns(job, now)) return lost("expired");
  const source = await sourceOf(ctx, job);
  // The repository's row went away under the lease: nothing is left that could be cloned.
  return "fault" in source ? lost("gone") : granted(job, source, now);
}

/**
 * Give the best runnable job to the caller, or say when there will be one.
 *
 * One that nobody can run is put away, and the caller asks again: to look for another here would
 * read twice as much.
 */
export async function claimNext(ctx: MutationCtx, claim: Claim, now: number) {
  const job = await bestRunnable(ctx, now);
  if (job === null) return { job: null, nextRunAt: await nextRunAt(ctx), now };
  const source = await sourceOf(ctx, job);
  if (!job.cancelRequested && !("fault" in source)) {
    return granted(await grant(ctx, job, claim, now), source, now);
  }
  if (job.cancelRequested) await ctx.db.patch(job._id, { status: "canceled", updatedAt: now });
  else if ("fault" in source) await bury(ctx, job, source.fault, now);
  return { job: null, nextRunAt: now, now };
}

/** The pending job that comes first, or null. */
export async function firstPending(ctx: QueryCtx): Promise<Job | null> {
  return await ctx.db
    .query("jobs")
    .withIndex("by_status_runAt", (q) => q.eq("status", "pending"))
    .first();
}

/** When a job wants to run. A front end may have left it open: then since it exists. */
export function dueAt(job: Job): number {
  return job.runAt ?? job.createdAt;
}

/**
 * The runnable job of the highest priority, of those the one that waits longest, or null.
 *
 * Reads at most one document for each priority.
 */
export async function bestRunnable(ctx: QueryCtx, now: number): Promise<Job | null> {
  const unranked = [await bestTimed(ctx, now), await firstUntimed(ctx)];
  const isWaiting = unranked.some((job) => job !== null);
  // Where one of these is due, nobody of a lower priority can be the best.
  const ranked = await bestRanked(ctx, now, isWaiting ? UNRANKED : LAST_RANK);
  const best = [ranked, ...unranked].filter((job) => job !== null).sort(byTurn)[0];
  return best ?? null;
}

/** The best of a front end's rows that have a time. They have no rank and count as priority 0. */
async function bestTimed(ctx: QueryCtx, now: number): Promise<Job | null> {
  return await ctx.db
    .query("jobs")
    .withIndex("by_queue", (q) =>
      // A missing `runAt` sorts below every number, so this leaves out the rows without one.
      q.eq("status", "pending").eq("rank", undefined).gt("runAt", undefined).lte("runAt", now),
    )
    .first();
}

/** The first of a front end's rows that have neither rank nor time. */
async function firstUntimed(ctx: QueryCtx): Promise<Job | null> {
  return await ctx.db
    .query("jobs")
    .withIndex("by_queue", (q) =>
      q.eq("status", "pending").eq("rank", undefined).eq("runAt", undefined),
    )
    .first();
}

/** The best of our own rows up to `last`: skip from rank to rank until the head of one is due. */
async function bestRanked(ctx: QueryCtx, now: number, last: number): Promise<Job | null> {
  let rank: number | undefined;
  while (rank === undefined || rank < last) {
    const head = await ctx.db
      .query("jobs")
      // A missing rank sorts below every number, so this starts at the highest priority.
      .withIndex("by_queue", (q) => q.eq("status", "pending").gt("rank", rank).lte("rank", last))
      .first();
    if (head === null || dueAt(head) <= now) return head;
    rank = head.rank;
  }
  return null;
}

function byTurn(one: Job, other: Job): number {
  return (
    (one.rank ?? UNRANKED) - (other.rank ?? UNRANKED) ||
    dueAt(one) - dueAt(other) ||
    one._creationTime - other._creationTime
  );
}

async function nextRunAt(ctx: QueryCtx): Promise<number | null> {
  const first = await firstPending(ctx);
  return first === null ? null : dueAt(first);
}

/** Make `job` the caller's; the row as it is then. */
async function grant(ctx: MutationCtx, job: Job, claim: Claim, now: number): Promise<Job> {
  const { workerId, instance, leaseToken, leaseMs } = claim;
  const attempt = (job.attempt ?? 0) + 1;
  const leaseUntil = firstLeaseUntil(leaseMs, now);
  const changes = {
    status: "claimed" as const,
    attempt,
    leaseToken,
    leaseMs,
    leaseUntil,
    expiresAt: leaseUntil,
    lockedBy: instance,
    workerId,
    beat: 0,
    firstClaimedAt: job.firstClaimedAt ?? now,
    progress: undefined,
    currentStep: undefined,
    totalSteps: undefined,
    error: undefined,
    // A front end put the job back after its end: what it died of is past.
    errorClass: job.completedAt === undefined ? job.errorClass : undefined,
    completedAt: undefined,
    updatedAt: now,
  };
  await ctx.db.patch(job._id, changes);
  await ctx.db.insert("attempts", {
    token: leaseToken,
    jobId: job._id,
    attempt,
    instance,
    startedAt: now,
  });
  await scheduleExpiry(ctx, leaseUntil, { jobId: job._id, attempt });
  return { ...job, ...changes };
}

/** Put away a job with nothing to clone. */
async function bury(ctx: MutationCtx, job: Job, fault: string, now: number): Promise<void> {
  const described = { error: fault, lastError: fault, errorClass: "invalid_job" };
  await ctx.db.patch(job._id, { ...described, status: "dead", completedAt: now, updatedAt: now });
}

/** The answer that hands a claimed job to its worker: all that it needs, and no secret. */
function granted(job: Job, source: Source, now: number) {
  return {
    job: {
      id: job._id,
      attempt: job.attempt ?? 0,
      attempts: job.attempts ?? 0,
      maxAttempts: job.maxAttempts ?? DEFAULT_MAX_ATTEMPTS,
      prompt: job.prompt,
      ...source,
      commit: job.commit,
      subdirectory: job.subdirectory,
      model: job.model,
      timeoutMs: job.timeoutMs,
      priority: 0 - (job.rank ?? 0),
      createdAt: job.createdAt,
      dueAt: dueAt(job),
    },
    leaseUntil: job.leaseUntil,
    now,
  };
}
