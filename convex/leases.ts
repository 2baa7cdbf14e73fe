/**
 * Who holds a job, and why a lease is lost.
 *
 * A token is made by the worker for one claim. It may write to the job as long as it is the token
 * of the latest claim and no call ended it. Calls about *work* need a lease that runs beside;
 * calls that hand in a finished result do not: a result is saved although its lease is over, as
 * long as nobody else has claimed the job since.
 */

import { MINUTE, SECOND } from "./bounds";
import { type LostReason, leaseLost } from "./errors";
import type { Doc, MutationCtx } from "./server";

/** The three arguments of every call about a claimed job. */
export type Token = { jobId: string; leaseToken: string; attempt: number };

type Job = Doc<"jobs">;
/** A job whose latest claim's token was not ended. */
export type ClaimedJob = Job & { leaseToken: string; attempt: number };
type Settlement = NonNullable<Job["settled"]>;
type Call = Settlement["call"];

/** In the order in which an attempt goes through them. */
const IN_FLIGHT: readonly Job["status"][] = ["claimed", "cloning", "analyzing", "gathering"];

const FIRST_LEASE = 30 * SECOND;
const GATHERING_GRACE = 10 * MINUTE;

/** The job that this token may hand in a result for; refuses any other caller. */
export async function handInBy(ctx: MutationCtx, token: Token): Promise<ClaimedJob> {
  const job = await jobOf(ctx, token.jobId);
  const reason = lostReason(job, token);
  if (reason !== null) throw leaseLost(reason);
  // Token and attempt were just compared with the caller's.
  return job as ClaimedJob;
}

/** The job that this token holds under a lease that runs; refuses any other caller. */
export async function heldBy(ctx: MutationCtx, token: Token, now: number): Promise<ClaimedJob> {
  const job = await handInBy(ctx, token);
  if (!leaseRuns(job, now)) throw leaseLost("expired");
  return job;
}

/** The answer that `call` gave when it ended this token, or null when it did not. */
export async function earlierAnswer(ctx: MutationCtx, token: Token, call: Call) {
  const settled = (await jobOf(ctx, token.jobId))?.settled;
  return settled?.token === token.leaseToken && settled.call === call ? settled.answer : null;
}

/** Why this token may not write to `job` any more, or null while it may. */
export function lostReason(
  job: Job | null,
  token: Pick<Token, "leaseToken" | "attempt">,
): LostReason | null {
  if (job === null) return "gone";
  if (job.settled?.token === token.leaseToken) {
    return job.settled.call === "complete" ? "completed" : "settled";
  }
  if (job.leaseToken === token.leaseToken && job.attempt === token.attempt) {
    return isCanceled(job) ? "canceled" : null;
  }
  if (job.status === "completed") return "completed";
  // Only a cancellation takes the latest token away without a call of that token.
  const taken = job.leaseToken === undefined && job.attempt === token.attempt;
  return taken ? "canceled" : "superseded";
}

/** Whether the token of this attempt of `job` can still hand in a result. */
export function isOwner(job: Job | null, attempt: number): boolean {
  return job?.leaseToken !== undefined && job.attempt === attempt && !isCanceled(job);
}

/** Whether the lease on `job` has not ended yet. */
export function leaseRuns(job: Job, now: number): boolean {
  return job.expiresAt !== undefined && job.leaseUntil !== undefined && now < job.leaseUntil;
}

/**
 * Whether somebody else put an end to a job whose token was not ended by us.
 *
 * A front end cancels by writing a status of its own. Under a lease ours are those in flight;
 * after it an expiry leaves `pending` or `dead`.
 */
export function isCanceled(job: Job): boolean {
  if (job.cancelRequested) return true;
  if (job.expiresAt !== undefined) return !isInFlight(job);
  return job.status !== "pending" && job.status !== "dead";
}

/** Whether the job's status is one that a worker goes through. */
export function isInFlight(job: Job): boolean {
  return IN_FLIGHT.includes(job.status);
}

/** The later of two statuses of an attempt: it only moves forward. */
export function furtherStatus(now: Job["status"], wanted: Job["status"]): Job["status"] {
  return IN_FLIGHT.indexOf(wanted) > IN_FLIGHT.indexOf(now) ? wanted : now;
}

/** The end of the first lease, which the first heartbeat makes whole. */
export function firstLeaseUntil(leaseMs: number, now: number): number {
  return now + Math.min(leaseMs, FIRST_LEASE);
}

/** When a job becomes claimable: a result on a worker's disk gets time to arrive. */
export function expiryOf(status: Job["status"], leaseUntil: number): number {
  return status === "gathering" ? leaseUntil + GATHERING_GRACE : leaseUntil;
}

/** The changes that leave no lease on a job. Its token can still hand in. */
export const noLease = { lockedBy: undefined, leaseUntil: undefined, expiresAt: undefined };

/** End the token by `call`, with `changes`, and keep `answer` for when the call is repeated. */
export async function settle(
  ctx: MutationCtx,
  job: ClaimedJob,
  call: Call,
  answer: Settlement["answer"],
  changes: Partial<Job>,
): Promise<void> {
  await ctx.db.patch(job._id, {
    ...noLease,
    ...changes,
    leaseToken: undefined,
    settled: { token: job.leaseToken, call, answer },
    status: answer.status,
    updatedAt: Date.now(),
  });
}

/** Write down how the attempt of `token` ended. */
export async function closeAttempt(
  ctx: MutationCtx,
  token: string | undefined,
  outcome: string,
  note?: string,
): Promise<void> {
  if (token === undefined) return;
  const row = await attemptOf(ctx, token);
  if (row !== null) await ctx.db.patch(row._id, { outcome, note, endedAt: Date.now() });
}

/** The claim that used `token`, or null. */
export async function attemptOf(ctx: MutationCtx, token: string): Promise<Doc<"attempts"> | null> {
  return await ctx.db
    .query("attempts")
    .withIndex("by_token", (q) => q.eq("token", token))
    .unique();
}

async function jobOf(ctx: MutationCtx, jobId: string): Promise<Job | null> {
  const id = ctx.db.normalizeId("jobs", jobId);
  return id === null ? null : await ctx.db.get(id);
}
