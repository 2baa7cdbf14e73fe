/**
 * The tables of the queue, for `defineSchema({ ...fondationTables })`.
 *
 * Names of tables and indexes are those that front ends of the earlier Node worker know.
 */

import { defineTable } from "convex/server";
import { v } from "convex/values";
import { documentKind, fondationFields } from "./fields";

const users = defineTable(fondationFields.users).index("by_github_id", ["githubId"]);

const repositories = defineTable(fondationFields.repositories).index("by_user", ["userId"]);

const jobs = defineTable(fondationFields.jobs)
  .index("by_user", ["userId"])
  .index("by_repository", ["repositoryId"])
  .index("by_status", ["status"])
  .index("by_status_runAt", ["status", "runAt"])
  .index("by_queue", ["status", "rank", "runAt"])
  .index("by_leaseUntil", ["leaseUntil"])
  .index("by_expiresAt", ["expiresAt"])
  .index("by_dedupeKey", ["dedupeKey"])
  .index("by_dedupeKey_status", ["dedupeKey", "status"])
  .index("by_end", ["status", "endedAt", "attempt"]);

const docs = defineTable(fondationFields.docs)
  .index("by_job", ["jobId"])
  .index("by_repository", ["repositoryId"])
  .index("by_source_key", ["sourceKey"])
  .index("by_job_attempt", ["jobId", "attempt"])
  .index("by_storageId", ["storageId"]);

const jobLogs = defineTable(fondationFields.jobLogs)
  .index("by_job", ["jobId"])
  .index("by_job_seq", ["jobId", "seq"])
  .index("by_loggedAt", ["loggedAt"]);

/** One row for each claim, so that a token claims only once. */
const attempts = defineTable({
  token: v.string(),
  jobId: v.id("jobs"),
  attempt: v.number(),
  instance: v.string(),
  startedAt: v.number(),
  endedAt: v.optional(v.number()),
  /** `completed`, `released`, or the class of the failure. */
  outcome: v.optional(v.string()),
  note: v.optional(v.string()),
  /** Bytes of the contents that this attempt staged inline. */
  inlineBytes: v.optional(v.number()),
})
  .index("by_token", ["token"])
  .index("by_job", ["jobId"]);

/** The claims that were cancelled, for the workers that held them. */
const cancellations = defineTable({
  instance: v.string(),
  jobId: v.id("jobs"),
  attempt: v.number(),
  canceledAt: v.number(),
})
  .index("by_instance", ["instance"])
  .index("by_canceledAt", ["canceledAt"]);

/** How much the log of a job has: apart from the job, which many calls read. */
const logSums = defineTable({
  jobId: v.id("jobs"),
  bytes: v.number(),
  full: v.boolean(),
  /** When a line was appended last. */
  loggedAt: v.number(),
})
  .index("by_job", ["jobId"])
  .index("by_loggedAt", ["loggedAt"]);

/** What workers told of themselves, a row for each process. */
const workers = defineTable({
  instance: v.string(),
  workerId: v.string(),
  version: v.string(),
  slots: v.number(),
  busy: v.number(),
  /** In words. */
  state: v.string(),
  startedAt: v.number(),
  seenAt: v.number(),
})
  .index("by_instance", ["instance"])
  .index("by_seenAt", ["seenAt"]);

/** Documents that were handed in and are not visible yet. */
const stagedDocs = defineTable({
  jobId: v.id("jobs"),
  attempt: v.number(),
  index: v.number(),
  digest: v.string(),
  slug: v.string(),
  title: v.string(),
  kind: documentKind,
  chapterIndex: v.number(),
  content: v.string(),
  storageId: v.optional(v.id("_storage")),
  size: v.optional(v.number()),
  stagedAt: v.number(),
})
  .index("by_job", ["jobId", "attempt", "index"])
  .index("by_storageId", ["storageId"]);

/** The files that a worker announced before it uploaded them. */
const uploads = defineTable({
  jobId: v.id("jobs"),
  attempt: v.number(),
  sha256: v.string(),
  announcedAt: v.number(),
}).index("by_job", ["jobId", "attempt", "sha256"]);

/** One row, written every minute: workers see that they are connected, we see outages. */
const pulse = defineTable({
  at: v.number(),
  /** When the pulse came back after its last gap. */
  resumedAt: v.optional(v.number()),
});

export const fondationTables = {
  users,
  repositories,
  jobs,
  docs,
  jobLogs,
  attempts,
  cancellations,
  logSums,
  workers,
  stagedDocs,
  uploads,
  pulse,
};
