/** The functions that applications and operators call about jobs. */

import { v } from "convex/values";
import { operatorMutation, operatorQuery } from "./access";
import { checkJob, DEFAULT_MAX_ATTEMPTS, MIB, requireInteger } from "./bounds";
import { existing, ownership, unfinishedTwin } from "./enqueuing";
import { jobStatus } from "./fields";
import { linesOf } from "./joblogs";
import { jobBytes, takeWithin } from "./reading";
import { cancelJob, hasEnded, retryJob } from "./steering";
import { jobView } from "./views";

/** One answer may have 16 MiB, and a prompt 200 KiB. */
const LISTED_BYTES = 8 * MIB;

/** Put a job into the queue, unless one with the same `dedupeKey` has not ended. */
export const enqueue = operatorMutation({
  args: {
    prompt: v.string(),
    repositoryId: v.optional(v.string()),
    cloneUrl: v.optional(v.string()),
    ref: v.optional(v.string()),
    commit: v.optional(v.string()),
    subdirectory: v.optional(v.string()),
    priority: v.optional(v.number()),
    runAt: v.optional(v.number()),
    maxAttempts: v.optional(v.number()),
    model: v.optional(v.string()),
    timeoutMs: v.optional(v.number()),
    userId: v.optional(v.string()),
    dedupeKey: v.optional(v.string()),
  },
  handler: async (ctx, args) => {
    const now = Date.now();
    checkJob(args, now);
    const { repositoryId, userId, priority = 0, ...rest } = args;
    const twin = await unfinishedTwin(ctx, args.dedupeKey);
    if (twin !== null) return { jobId: twin._id, duplicate: true, now };
    const jobId = await ctx.db.insert("jobs", {
      ...rest,
      ...(await ownership(ctx, args)),
      status: "pending",
      // Subtracted, not negated: -0 sorts before 0.
      rank: 0 - priority,
      runAt: args.runAt ?? now,
      attempt: 0,
      attempts: 0,
      maxAttempts: args.maxAttempts ?? DEFAULT_MAX_ATTEMPTS,
      createdAt: now,
      updatedAt: now,
    });
    return { jobId, now };
  },
});

/** A job, or null. */
export const get = operatorQuery({
  args: { jobId: v.string() },
  handler: async (ctx, args) => {
    const jobId = ctx.db.normalizeId("jobs", args.jobId);
    const job = jobId && (await ctx.db.get(jobId));
    return job && (await jobView(ctx, job));
  },
});

/** The newest jobs first; fewer than `limit` where their prompts are very long. */
export const list = operatorQuery({
  args: { status: v.optional(jobStatus), limit: v.optional(v.number()) },
  handler: async (ctx, { status, limit = 20 }) => {
    requireInteger("limit", limit, 1, 100);
    const jobs = ctx.db.query("jobs");
    const newest =
      status === undefined
        ? jobs.order("desc")
        : jobs.withIndex("by_status", (q) => q.eq("status", status)).order("desc");
    const { rows } = await takeWithin(newest, jobBytes, { most: limit, bytes: LISTED_BYTES });
    return await Promise.all(rows.map((job) => jobView(ctx, job)));
  },
});

/** End a job that has not ended. Its worker stops, and what it hands in later is refused. */
export const cancel = operatorMutation({
  args: { jobId: v.string() },
  handler: async (ctx, args) => {
    const now = Date.now();
    const job = await existing(ctx, "jobs", "jobId", args.jobId);
    if (hasEnded(job)) return { already: job.status, now };
    await cancelJob(ctx, job, now);
    return { status: "canceled" as const, now };
  },
});

/** Try a job again that ended without a result, or that waits, at once and with all attempts. */
export const retry = operatorMutation({
  args: { jobId: v.string() },
  handler: async (ctx, args) => {
    const now = Date.now();
    await retryJob(ctx, await existing(ctx, "jobs", "jobId", args.jobId), now);
    return { status: "pending" as const, now };
  },
});

/** The log of a job in order, from the first line after the `seq` that is named. */
export const logs = operatorQuery({
  args: { jobId: v.string(), after: v.optional(v.number()), limit: v.optional(v.number()) },
  handler: async (ctx, { jobId: name, after = -1, limit = 200 }) => {
    requireInteger("limit", limit, 1, 1000);
    const jobId = ctx.db.normalizeId("jobs", name);
    if (jobId === null) return { lines: [], more: false };
    return await linesOf(ctx, jobId, after, limit);
  },
});
