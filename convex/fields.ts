/**
 * The fields of the tables that an application may have as well.
 *
 * Every row that a front end of the earlier Node worker wrote is valid here, so names of fields and
 * statuses are those it knows, and what came later is optional.
 */

import { v } from "convex/values";

export const jobStatus = v.union(
  v.literal("pending"),
  v.literal("claimed"),
  v.literal("cloning"),
  v.literal("analyzing"),
  v.literal("gathering"),
  v.literal("completed"),
  v.literal("dead"),
  v.literal("canceled"),
  // Written by earlier front ends only.
  v.literal("running"),
  v.literal("failed"),
);

export const documentKind = v.union(
  v.literal("chapter"),
  v.literal("tutorial"),
  v.literal("toc"),
  v.literal("yaml"),
);

export const logLevel = v.union(v.literal("info"), v.literal("error"));

/** What a run consumed, as the worker reports it. */
export const runUsage = v.object({
  model: v.optional(v.string()),
  costUsd: v.optional(v.number()),
  turns: v.optional(v.number()),
  durationMs: v.optional(v.number()),
  inputTokens: v.optional(v.number()),
  outputTokens: v.optional(v.number()),
  cacheReadTokens: v.optional(v.number()),
  cacheCreationTokens: v.optional(v.number()),
});

/** The call that ended a token, kept so that the same call gets the same answer again. */
const settlement = v.object({
  token: v.string(),
  call: v.union(v.literal("complete"), v.literal("fail"), v.literal("release")),
  answer: v.object({
    status: v.union(v.literal("completed"), v.literal("pending"), v.literal("dead")),
    attempts: v.optional(v.number()),
    runAt: v.optional(v.number()),
    docsCount: v.optional(v.number()),
  }),
});

/** For an application that adds fields of its own to one of these tables. */
export const fondationFields = {
  users: {
    githubId: v.string(),
    username: v.string(),
    email: v.optional(v.string()),
    avatarUrl: v.optional(v.string()),
    githubAccessToken: v.optional(v.string()),
    createdAt: v.number(),
  },
  repositories: {
    userId: v.id("users"),
    githubRepoId: v.string(),
    name: v.string(),
    fullName: v.string(),
    description: v.optional(v.string()),
    defaultBranch: v.string(),
    lastFetched: v.optional(v.number()),
    lastAnalyzedAt: v.optional(v.number()),
    languages: v.optional(
      v.object({
        primary: v.string(),
        all: v.array(v.object({ name: v.string(), percentage: v.number(), bytes: v.number() })),
      }),
    ),
    stats: v.optional(v.object({ stars: v.number(), forks: v.number(), issues: v.number() })),
    /** The latest created job that completed: its documents are the repository's. */
    currentJobId: v.optional(v.id("jobs")),
  },
  jobs: {
    userId: v.optional(v.id("users")),
    repositoryId: v.optional(v.id("repositories")),
    status: jobStatus,
    prompt: v.string(),
    callbackToken: v.optional(v.string()),
    runAt: v.optional(v.number()),
    /** The attempts that were spent. */
    attempts: v.optional(v.number()),
    maxAttempts: v.optional(v.number()),
    lockedBy: v.optional(v.string()),
    leaseUntil: v.optional(v.number()),
    dedupeKey: v.optional(v.string()),
    lastError: v.optional(v.string()),
    createdAt: v.number(),
    updatedAt: v.optional(v.number()),
    completedAt: v.optional(v.number()),
    progress: v.optional(v.string()),
    currentStep: v.optional(v.number()),
    totalSteps: v.optional(v.number()),
    result: v.optional(
      v.union(
        v.object({
          success: v.boolean(),
          message: v.optional(v.string()),
          data: v.optional(v.string()),
        }),
        v.string(),
        v.null(),
      ),
    ),
    error: v.optional(v.string()),
    docsCount: v.optional(v.number()),
    cancelRequested: v.optional(v.boolean()),
    runId: v.optional(v.string()),
    regenerationStats: v.optional(
      v.object({
        inserted: v.number(),
        updated: v.number(),
        skipped: v.number(),
        rejected: v.number(),
        deleted: v.number(),
      }),
    ),

    // What to analyse, and how.
    cloneUrl: v.optional(v.string()),
    ref: v.optional(v.string()),
    commit: v.optional(v.string()),
    subdirectory: v.optional(v.string()),
    model: v.optional(v.string()),
    timeoutMs: v.optional(v.number()),
    /** `0 - priority`, so that the index sorts urgent jobs first; absent on a front end's rows. */
    rank: v.optional(v.number()),

    // Who holds it.
    /** The ordinal of the latest claim. It only grows. */
    attempt: v.optional(v.number()),
    /** The token of the latest claim, until a call ends it. */
    leaseToken: v.optional(v.string()),
    leaseMs: v.optional(v.number()),
    /** When the job becomes claimable again; unset when no lease of ours runs. */
    expiresAt: v.optional(v.number()),
    workerId: v.optional(v.string()),
    /** The newest heartbeat of this attempt; 0 until the first, which spends the attempt. */
    beat: v.optional(v.number()),
    firstClaimedAt: v.optional(v.number()),
    /** How often the job was given back without spending an attempt. */
    returns: v.optional(v.number()),
    settled: v.optional(settlement),

    // How it ended.
    /** When it was seen to have ended, for retention. */
    endedAt: v.optional(v.number()),
    errorClass: v.optional(v.string()),
    resolvedCommit: v.optional(v.string()),
    usage: v.optional(runUsage),
  },
  docs: {
    jobId: v.id("jobs"),
    repositoryId: v.optional(v.id("repositories")),
    slug: v.string(),
    title: v.string(),
    chapterIndex: v.number(),
    kind: documentKind,
    content: v.string(),
    createdAt: v.number(),
    updatedAt: v.optional(v.number()),
    sourceKey: v.optional(v.string()),
    runId: v.optional(v.string()),
    normalizedAt: v.optional(v.number()),
    /** The attempt that published it. Only rows that carry it are ours to delete. */
    attempt: v.optional(v.number()),
    storageId: v.optional(v.id("_storage")),
    size: v.optional(v.number()),
  },
  jobLogs: {
    jobId: v.id("jobs"),
    ts: v.number(),
    seq: v.number(),
    level: logLevel,
    msg: v.string(),
    attempt: v.optional(v.number()),
    /** When it was appended. Only rows that carry it are ours to delete. */
    loggedAt: v.optional(v.number()),
  },
};
