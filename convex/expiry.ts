/** What becomes of a job whose lease nobody renewed. */

import { MIB, MINUTE, SECOND } from "./bounds";
import { closeAttempt, isCanceled, isInFlight, noLease } from "./leases";
import { jobBytes, takeWithin } from "./reading";
import type { Doc, MutationCtx, QueryCtx } from "./server";
import { afterExpiry, changesAfter, standingOf } from "./verdicts";

type Job = Doc<"jobs">;

const LONGEST_GAP = 150 * SECOND;
const HOLD = 2 * MINUTE;
/** A pulse that never comes back must not hold jobs for ever. */
const LONGEST_HOLD = 2 * HOLD;

/** Putting a job back reads it again, so this is a quarter of what one call may read. */
const PER_CALL = { most: 20, bytes: 4 * MIB };

const EXPIRED = { class: "lease_expired", message: "the worker stopped renewing its lease" };

/**
 * Until when nothing may be put back because an outage has just ended, or null.
 *
 * Workers that were cut off come back at the same time as we do: those that finished meanwhile
 * hand in before their jobs are given to somebody else.
 */
export async function heldUntil(ctx: QueryCtx, now: number): Promise<number | null> {
  const pulse = await ctx.db.query("pulse").first();
  if (pulse === null) return null;
  // We may run before the pulse does.
  if (now - pulse.at > LONGEST_GAP) return now + HOLD;
  const end = (pulse.resumedAt ?? Number.NEGATIVE_INFINITY) + HOLD;
  return now < end ? end : null;
}

/** Whether an expiry that was first put off at `heldSince` was put off long enough. */
export function heldLongEnough(heldSince: number | undefined, now: number): boolean {
  return heldSince !== undefined && now - heldSince >= LONGEST_HOLD;
}

/** Write the pulse, and whether it comes back after a gap. */
export async function beatPulse(ctx: MutationCtx, now: number): Promise<void> {
  const pulse = await ctx.db.query("pulse").first();
  if (pulse === null) {
    await ctx.db.insert("pulse", { at: now });
  } else if (now - pulse.at > LONGEST_GAP) {
    await ctx.db.patch(pulse._id, { at: now, resumedAt: now });
  } else {
    await ctx.db.patch(pulse._id, { at: now });
  }
}

/** As many jobs whose lease is over as one call may put back, those that wait longest first. */
export async function overdueJobs(ctx: QueryCtx, now: number): Promise<Job[]> {
  const overdue = ctx.db
    .query("jobs")
    // The lower bound leaves out the rows without a lease of ours, which sort first.
    .withIndex("by_expiresAt", (q) => q.gte("expiresAt", 0).lte("expiresAt", now));
  return (await takeWithin(overdue, jobBytes, PER_CALL)).rows;
}

/** Make a job claimable again whose lease is over, or let it die. Its token can still hand in. */
export async function putBack(ctx: MutationCtx, job: Job, now: number): Promise<void> {
  if (isCanceled(job)) return await letGo(ctx, job, now);
  const verdict = afterExpiry(standingOf(job, now), now);
  await ctx.db.patch(job._id, { ...noLease, ...changesAfter(verdict, EXPIRED, now) });
  await closeAttempt(ctx, job.leaseToken, EXPIRED.class);
}

/** End the lease of a job that a front end cancelled, and with it the token. */
async function letGo(ctx: MutationCtx, job: Job, now: number): Promise<void> {
  const status = isInFlight(job) ? "canceled" : job.status;
  await ctx.db.patch(job._id, { ...noLease, leaseToken: undefined, status, updatedAt: now });
  await closeAttempt(ctx, job.leaseToken, "canceled");
}
