/** The functions that applications and operators call about jobs. */

import { v } from "convex/values";
import { operatorMutation, operatorQuery } from "./access";
import { checkJob, DEFAULT_MAX_ATTEMPTS, MIB, type NewJob, requireInteger } from "./bounds";
import { invalid } from "./errors";
import { jobStatus } from "./fields";
import { jobBytes, takeWithin } from "./reading";
import type { Doc, Id, MutationCtx } from "./server";
import { sourceIn } from "./sources";
import { cancelJob, hasEnded, retryJob } from "./steering";
import { jobView } from "./views";

/** One answer may have 16 MiB, and a prompt 200 KiB. */
const LISTED_BYTES = 8 * MIB;

/** Put a job into the queue. */
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
  },
  handler: async (ctx, args) => {
    const now = Date.now();
    checkJob(args, now);
    const { repositoryId, userId, priority = 0, ...rest } = args;
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

/** Whose job it is, and the row of the repository that it names instead of a clone URL. */
async function ownership(
  ctx: MutationCtx,
  { repositoryId, cloneUrl, userId }: NewJob,
): Promise<{ repositoryId?: Id<"repositories">; userId?: Id<"users"> }> {
  if ((repositoryId === undefined) === (cloneUrl === undefined)) {
    throw invalid("repositoryId", "either this or cloneUrl must be given");
  }
  const user = userId === undefined ? null : await existing(ctx, "users", "userId", userId);
  if (repositoryId === undefined) return { repositoryId, userId: user?._id };
  const repository = await existing(ctx, "repositories", "repositoryId", repositoryId);
  const source = sourceIn(repository);
  if ("fault" in source) throw invalid("repositoryId", source.fault);
  return { repositoryId: repository._id, userId: user?._id ?? repository.userId };
}

async function existing<Table extends "users" | "repositories" | "jobs">(
  ctx: MutationCtx,
  table: Table,
  field: string,
  value: string,
): Promise<Doc<Table>> {
  const id = ctx.db.normalizeId(table, value);
  const row = id && (await ctx.db.get(id));
  if (row === null) throw invalid(field, `is not in the table ${table}`);
  return row;
}
