/** What an operator does to a job that is there already: cancel it, or try it again. */

import { invalid } from "./errors";
import { attemptOf, closeAttempt, isCanceled, noLease } from "./leases";
import type { Doc, MutationCtx, QueryCtx } from "./server";
import { patienceAnew } from "./verdicts";

type Job = Doc<"jobs">;

/** The statuses of a job that has not ended; `running` only a front end writes. */
export const UNFINISHED: readonly Job["status"][] = [
  "pending",
  "claimed",
  "cloning",
  "analyzing",
  "gathering",
  "running",
];
/** The statuses that nothing but an operator or a front end changes again, or a late result. */
export const ENDED: readonly Job["status"][] = ["completed", "dead", "canceled", "failed"];
const RETRIED: readonly Job["status"][] = ["pending", "dead", "canceled", "failed"];

/** How many cancellations a worker is told of at once: those of an hour. */
const MOST_TOLD = 100;

/** Whether `job` has ended. */
export function hasEnded(job: Job): boolean {
  return ENDED.includes(job.status);
}

/** End `job` and with it the token that holds it: a result that arrives later is refused. */
export async function cancelJob(ctx: MutationCtx, job: Job, now: number): Promise<void> {
  await takeAway(ctx, job, now);
  await ctx.db.patch(job._id, {
    ...endedToken,
    status: "canceled",
    ...patienceAnew,
    completedAt: now,
    updatedAt: now,
  });
}

/**
 * Make `job` runnable now, with all of its attempts.
 *
 * A worker whose lease ran out may still hand in what it has, until somebody else claims: a retry
 * takes nothing from it. Only of a job that was cancelled the token stays ended.
 */
export async function retryJob(ctx: MutationCtx, job: Job, now: number): Promise<void> {
  if (!RETRIED.includes(job.status)) {
    const advice = job.status === "completed" ? "enqueue a new one" : "cancel it first";
    throw invalid("jobId", `names a job that is ${job.status}; ${advice}`);
  }
  const wasCanceled = isCanceled(job);
  if (wasCanceled) await takeAway(ctx, job, now);
  await ctx.db.patch(job._id, {
    ...(wasCanceled ? endedToken : {}),
    ...patienceAnew,
    status: "pending",
    attempts: 0,
    runAt: now,
    cancelRequested: undefined,
    error: undefined,
    errorClass: undefined,
    completedAt: undefined,
    updatedAt: now,
  });
}

/** The claims of `instance` that were cancelled, the latest first. */
export async function canceledClaims(ctx: QueryCtx, instance: string) {
  const rows = await ctx.db
    .query("cancellations")
    .withIndex("by_instance", (q) => q.eq("instance", instance))
    .order("desc")
    .take(MOST_TOLD);
  return rows.map(({ jobId, attempt }) => ({ jobId, attempt }));
}

const endedToken = { ...noLease, leaseToken: undefined };

/** Tell the worker whose token can write to `job` that it cannot any more. */
async function takeAway(ctx: MutationCtx, job: Job, now: number): Promise<void> {
  if (job.leaseToken === undefined) return;
  const claim = await attemptOf(ctx, job.leaseToken);
  if (claim === null) return;
  const { instance, attempt } = claim;
  await ctx.db.insert("cancellations", { instance, jobId: job._id, attempt, canceledAt: now });
  await closeAttempt(ctx, job.leaseToken, "canceled");
}
