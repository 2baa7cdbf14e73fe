/** What the scheduler and the crons call. None of it is callable from outside. */

import { v } from "convex/values";
import { dropEarlierOf, dropOutdatedOf, dropStagedOf, dropUploadsOf } from "./cleaning";
import { beatPulse, heldLongEnough, heldUntil, overdueJobs, putBack } from "./expiry";
import { chores } from "./retention";
import {
  scheduleChore,
  scheduleDropEarlier,
  scheduleDropOutdated,
  scheduleDropStaged,
  scheduleDropUploads,
  scheduleExpiry,
} from "./scheduling";
import { internalMutation } from "./server";

/**
 * Put a job back whose lease is over; come again when the lease has moved meanwhile.
 *
 * So there is one scheduled call for each claim, not one for each heartbeat.
 */
export const expire = internalMutation({
  args: { jobId: v.id("jobs"), attempt: v.number(), heldSince: v.optional(v.number()) },
  handler: async (ctx, { jobId, attempt, heldSince }) => {
    const now = Date.now();
    const job = await ctx.db.get(jobId);
    if (job === null || job.attempt !== attempt || job.expiresAt === undefined) return;
    if (job.expiresAt > now) {
      return await scheduleExpiry(ctx, job.expiresAt, { jobId, attempt });
    }
    const held = heldLongEnough(heldSince, now) ? null : await heldUntil(ctx, now);
    if (held === null) return await putBack(ctx, job, now);
    await scheduleExpiry(ctx, held, { jobId, attempt, heldSince: heldSince ?? now });
  },
});

/** Catch leases whose expiry the scheduler missed. */
export const sweep = internalMutation({
  args: {},
  handler: async (ctx) => {
    const now = Date.now();
    if ((await heldUntil(ctx, now)) !== null) return;
    for (const job of await overdueJobs(ctx, now)) await putBack(ctx, job, now);
  },
});

/** Write the pulse that workers subscribe to. */
export const beat = internalMutation({
  args: {},
  handler: async (ctx) => await beatPulse(ctx, Date.now()),
});

/** Delete what was staged for a job until it completed. */
export const dropStaged = internalMutation({
  args: { jobId: v.id("jobs"), attempt: v.optional(v.number()) },
  handler: async (ctx, staged) => {
    if (await dropStagedOf(ctx, staged)) await scheduleDropStaged(ctx, staged);
  },
});

/** Delete the documents of a job's earlier attempts. */
export const dropEarlier = internalMutation({
  args: { jobId: v.id("jobs"), attempt: v.number(), after: v.number() },
  handler: async (ctx, args) => {
    const next = await dropEarlierOf(ctx, args);
    if (next !== null) await scheduleDropEarlier(ctx, { ...args, after: next });
  },
});

/** Delete the documents of a repository's jobs other than its current one. */
export const dropOutdated = internalMutation({
  args: { repositoryId: v.id("repositories"), after: v.number() },
  handler: async (ctx, args) => {
    const next = await dropOutdatedOf(ctx, args);
    if (next !== null) await scheduleDropOutdated(ctx, { ...args, after: next });
  },
});

/** Delete the files that an attempt announced and that no document names. */
export const dropUploads = internalMutation({
  args: { jobId: v.id("jobs"), attempt: v.number(), after: v.number() },
  handler: async (ctx, args) => {
    const next = await dropUploadsOf(ctx, args);
    if (next !== null) await scheduleDropUploads(ctx, { ...args, after: next });
  },
});

/** Begin with every chore of retention. */
export const retention = internalMutation({
  args: {},
  handler: async (ctx) => {
    for (const chore of Object.keys(chores)) await scheduleChore(ctx, { chore, after: 0 });
  },
});

/** Do a part of a chore of retention, and the next part in a call of its own. */
export const retain = internalMutation({
  args: { chore: v.string(), after: v.number() },
  handler: async (ctx, { chore, after }) => {
    const next = await chores[chore]?.(ctx, Date.now(), after);
    if (next !== null && next !== undefined) await scheduleChore(ctx, { chore, after: next });
  },
});
