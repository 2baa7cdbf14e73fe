/** The functions that workers call. */

import { v } from "convex/values";
import { protocol, version } from "./about";
import { workerMutation, workerQuery } from "./access";
import {
  checkClaim,
  checkCompletion,
  checkFailure,
  checkHeartbeat,
  clippedNote,
  clippedText,
  requireSha256,
  soundUsage,
} from "./bounds";
import { claimedBefore, claimNext, dueAt, firstPending } from "./claiming";
import { documentKind, logLevel, runUsage } from "./fields";
import { announce, checkDocuments, publish, stage } from "./handin";
import { appendLines, checkLines } from "./joblogs";
import {
  closeAttempt,
  earlierAnswer,
  expiryOf,
  furtherStatus,
  handInBy,
  heldBy,
  settle,
} from "./leases";
import { checkReport, keepReport } from "./roster";
import { canceledClaims } from "./steering";
import { cloneTokenFor } from "./tokens";
import { afterFailure, afterReturn, changesAfter, patienceAnew, standingOf } from "./verdicts";

/** Every call about a claimed job proves with these that the job is still the caller's. */
const token = { jobId: v.string(), leaseToken: v.string(), attempt: v.number() };

const document = v.object({
  index: v.number(),
  slug: v.string(),
  title: v.string(),
  kind: documentKind,
  chapterIndex: v.number(),
  content: v.string(),
  storageId: v.optional(v.string()),
  fileSha256: v.optional(v.string()),
  size: v.optional(v.number()),
});

/** Give the caller a job: for a token that has one the same, for a new token the best one. */
export const claim = workerMutation({
  args: {
    workerId: v.string(),
    instance: v.string(),
    leaseToken: v.string(),
    leaseMs: v.number(),
  },
  handler: async (ctx, args) => {
    checkClaim(args);
    const now = Date.now();
    return (await claimedBefore(ctx, args.leaseToken, now)) ?? (await claimNext(ctx, args, now));
  },
});

/** Renew a lease that runs and say how far the work is. The first one spends the attempt. */
export const heartbeat = workerMutation({
  args: {
    ...token,
    beat: v.number(),
    status: v.optional(
      v.union(v.literal("cloning"), v.literal("analyzing"), v.literal("gathering")),
    ),
    progress: v.optional(v.string()),
    currentStep: v.optional(v.number()),
    totalSteps: v.optional(v.number()),
  },
  handler: async (ctx, args) => {
    checkHeartbeat(args);
    const now = Date.now();
    const job = await heldBy(ctx, args, now);
    const { leaseUntil: until = now, leaseMs = 0, beat = 0, attempts = 0 } = job;
    if (args.beat <= beat) return { leaseUntil: until, now };
    const leaseUntil = Math.max(until, now + leaseMs);
    const status = furtherStatus(job.status, args.status ?? job.status);
    await ctx.db.patch(job._id, {
      beat: args.beat,
      attempts: beat === 0 ? attempts + 1 : attempts,
      status,
      leaseUntil,
      expiresAt: expiryOf(status, leaseUntil),
      progress: args.progress === undefined ? job.progress : clippedNote(args.progress),
      currentStep: args.currentStep ?? job.currentStep,
      totalSteps: args.totalSteps ?? job.totalSteps,
      updatedAt: now,
    });
    return { leaseUntil, now };
  },
});

/** Keep documents of a finished result, invisible until `complete`. */
export const stageDocs = workerMutation({
  args: { ...token, docs: v.array(document) },
  handler: async (ctx, args) => {
    checkDocuments(args.docs);
    const job = await handInBy(ctx, args);
    await stage(ctx, job, args.docs, Date.now());
    return { staged: args.docs.length };
  },
});

/** Where to upload the file with this checksum. */
export const uploadUrl = workerMutation({
  args: { ...token, sha256: v.string() },
  handler: async (ctx, args) => {
    requireSha256("sha256", args.sha256);
    await announce(ctx, await handInBy(ctx, args), args.sha256, Date.now());
    return { url: await ctx.storage.generateUploadUrl() };
  },
});

/** Publish a finished result: every document at once, or none and which ones are missing. */
export const complete = workerMutation({
  args: {
    ...token,
    digests: v.array(v.string()),
    message: v.string(),
    commit: v.optional(v.string()),
    usage: v.optional(runUsage),
  },
  handler: async (ctx, args) => {
    const now = Date.now();
    const earlier = await earlierAnswer(ctx, args, "complete");
    if (earlier !== null) return { ...earlier, now };
    checkCompletion(args);
    const job = await handInBy(ctx, args);
    await publish(ctx, job, args.digests, now);
    const docsCount = args.digests.length;
    const answer = { status: "completed" as const, docsCount };
    const message = clippedText(args.message);
    await settle(ctx, job, "complete", answer, {
      result: { success: true, message, data: `${docsCount} documents` },
      docsCount,
      resolvedCommit: args.commit,
      usage: args.usage && soundUsage(args.usage),
      error: undefined,
      lastError: undefined,
      errorClass: undefined,
      completedAt: now,
      ...patienceAnew,
    });
    await closeAttempt(ctx, args.leaseToken, "completed");
    return { ...answer, now };
  },
});

/** Report an attempt that ended without a result: the job is retried, put off, or dead. */
export const fail = workerMutation({
  args: { ...token, class: v.string(), message: v.string(), retryAt: v.optional(v.number()) },
  handler: async (ctx, args) => {
    const now = Date.now();
    const earlier = await earlierAnswer(ctx, args, "fail");
    if (earlier !== null) return { ...earlier, now };
    checkFailure(args);
    const job = await heldBy(ctx, args, now);
    const verdict = afterFailure(standingOf(job, now), args, now, Math.random());
    const failure = { class: args.class, message: clippedText(args.message) };
    const { status, attempts } = verdict;
    const runAt = verdict.status === "pending" ? verdict.runAt : undefined;
    const answer = { status, attempts, runAt };
    await settle(ctx, job, "fail", answer, changesAfter(verdict, failure, now));
    await closeAttempt(ctx, args.leaseToken, args.class, clippedNote(args.message));
    return { ...answer, now };
  },
});

/** Give the job back without spending an attempt. */
export const release = workerMutation({
  args: { ...token, reason: v.optional(v.string()) },
  handler: async (ctx, args) => {
    const now = Date.now();
    const earlier = await earlierAnswer(ctx, args, "release");
    if (earlier !== null) return { ...earlier, now };
    const job = await heldBy(ctx, args, now);
    const verdict = afterReturn(standingOf(job, now), now, now);
    const runAt = verdict.status === "pending" ? verdict.runAt : undefined;
    const answer = { status: verdict.status, runAt };
    await settle(ctx, job, "release", answer, changesAfter(verdict, null, now));
    await closeAttempt(ctx, args.leaseToken, "released", clippedNote(args.reason ?? ""));
    return { ...answer, now };
  },
});

/** What opens the repository of a job that the caller holds, or null. Never for another job. */
export const cloneToken = workerMutation({
  args: token,
  handler: async (ctx, args) => {
    const now = Date.now();
    const job = await heldBy(ctx, args, now);
    return { token: await cloneTokenFor(ctx, job), now };
  },
});

/** Keep lines of a job's log, each once; whether its log takes no more. */
export const appendLogs = workerMutation({
  args: {
    ...token,
    lines: v.array(v.object({ n: v.number(), at: v.number(), level: logLevel, msg: v.string() })),
  },
  handler: async (ctx, args) => {
    checkLines(args.lines);
    const now = Date.now();
    const full = await appendLines(ctx, await handInBy(ctx, args), args.lines, now);
    return { full, now };
  },
});

/** Tell operators that this worker is there, and in what state. */
export const report = workerMutation({
  args: {
    workerId: v.string(),
    instance: v.string(),
    version: v.string(),
    slots: v.number(),
    busy: v.number(),
    state: v.string(),
  },
  handler: async (ctx, args) => {
    checkReport(args);
    const now = Date.now();
    await keepReport(ctx, args, now);
    return { now };
  },
});

/**
 * The first of all pending jobs and its time, to subscribe to.
 *
 * It uses no clock: time that passes does not run a Convex query again, so the caller waits.
 */
export const workAvailable = workerQuery({
  args: {},
  handler: async (ctx) => {
    const first = await firstPending(ctx);
    if (first === null) return null;
    return { nextRunAt: dueAt(first), first: { id: first._id, attempt: first.attempt ?? 0 } };
  },
});

/** The caller's claims that an operator cancelled, to subscribe to. */
export const cancellations = workerQuery({
  args: { instance: v.string() },
  handler: async (ctx, { instance }) => ({ jobs: await canceledClaims(ctx, instance) }),
});

/** When the pulse was last written, to subscribe to: it shows that the subscription is alive. */
export const pulse = workerQuery({
  args: {},
  handler: async (ctx) => {
    const row = await ctx.db.query("pulse").first();
    return row && { at: row.at };
  },
});

/** Which functions these are, and the deployment's clock: for a look at it, not to subscribe to. */
export const about = workerQuery({
  args: {},
  handler: async () => ({ protocol, version, now: Date.now() }),
});
