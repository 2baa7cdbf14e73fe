/**
 * What is deleted when its time is over.
 *
 * Each chore looks at a few rows in a call and says where to go on. Rows of an application and of
 * the earlier Node worker may stand in the same tables: an index of a field that only we set leaves
 * them out, so that they are neither deleted nor read again and again.
 */

import { DAY, HOUR, MIB } from "./bounds";
import { dropPartOf, dropWithFile } from "./cleaning";
import { utf8Length } from "./digests";
import { environment } from "./environment";
import { isOwner } from "./leases";
import { jobBytes, takeWithin } from "./reading";
import { scheduleDropUploads } from "./scheduling";
import type { Doc, Id, MutationCtx } from "./server";
import { ENDED } from "./steering";

/** Deleting a row reads it again, so this is a quarter of what one call may read. */
const PER_CALL = { most: 100, bytes: 4 * MIB };

/** Where a chore goes on, or null when it has seen everything. */
type Next = number | null;
type DroppedTable = "cancellations" | "workers" | "jobLogs" | "logSums";
type Chore = (ctx: MutationCtx, now: number, after: number) => Promise<Next>;

/** How long things are kept; a variable of the deployment says otherwise. */
const keptLogs = () => kept("FONDATION_KEEP_LOGS_DAYS", 7, DAY);
const keptJobs = () => kept("FONDATION_KEEP_JOBS_DAYS", 90, DAY);
const keptUnowned = () => kept("FONDATION_KEEP_UNOWNED_HOURS", 24, HOUR);
const keptCancellations = () => kept("FONDATION_KEEP_CANCELLATIONS_HOURS", 1, HOUR);
const keptWorkers = () => kept("FONDATION_KEEP_WORKERS_DAYS", 7, DAY);

/** In milliseconds. What is not a number above 0 counts as not set. */
function kept(variable: string, otherwise: number, unit: number): number {
  const configured = Number(environment(variable) ?? "");
  return (configured > 0 ? configured : otherwise) * unit;
}

export const chores: Record<string, Chore> = {
  cancellations: async (ctx, now) => {
    const old = ctx.db
      .query("cancellations")
      .withIndex("by_canceledAt", (q) => q.lt("canceledAt", now - keptCancellations()));
    return await dropRows(ctx, old, () => 0);
  },

  workers: async (ctx, now) => {
    const unseen = ctx.db
      .query("workers")
      .withIndex("by_seenAt", (q) => q.lt("seenAt", now - keptWorkers()));
    return await dropRows(ctx, unseen, () => 0);
  },

  logs: async (ctx, now) => {
    // Lines go no later than their job, whatever was configured.
    const oldest = now - Math.min(keptLogs(), keptJobs());
    const old = ctx.db
      .query("jobLogs")
      // The lower bound leaves out the lines that are not ours, which sort first.
      .withIndex("by_loggedAt", (q) => q.gte("loggedAt", 0).lt("loggedAt", oldest));
    return await dropRows(ctx, old, ({ msg }) => utf8Length(msg));
  },

  logSums: async (ctx, now) => {
    const oldest = now - Math.min(keptLogs(), keptJobs());
    const old = ctx.db.query("logSums").withIndex("by_loggedAt", (q) => q.lt("loggedAt", oldest));
    return await dropRows(ctx, old, () => 0);
  },

  staged: async (ctx, now, after) => {
    const oldest = now - keptUnowned();
    const old = ctx.db
      .query("stagedDocs")
      .withIndex("by_creation_time", (q) =>
        q.gt("_creationTime", after).lt("_creationTime", oldest),
      );
    const { unowned, next } = await unownedOf(ctx, old, ({ content }) => utf8Length(content));
    for (const row of unowned) if (row.stagedAt < oldest) await dropWithFile(ctx, row);
    return next;
  },

  uploads: async (ctx, now, after) => {
    const oldest = now - keptUnowned();
    const old = ctx.db
      .query("uploads")
      .withIndex("by_creation_time", (q) =>
        q.gt("_creationTime", after).lt("_creationTime", oldest),
      );
    const { unowned, next } = await unownedOf(ctx, old, () => 0);
    const due = unowned.filter(({ announcedAt }) => announcedAt < oldest);
    const claims = new Map(due.map((row) => [`${row.jobId} ${row.attempt}`, row]));
    for (const { jobId, attempt } of claims.values()) {
      await scheduleDropUploads(ctx, { jobId, attempt, after: 0 });
    }
    return next;
  },

  /** Mark the jobs that have ended: a front end may end them as well, without a word to us. */
  ended: async (ctx, now) => {
    for (const status of ENDED) {
      const unmarked = ctx.db
        .query("jobs")
        // The lower bound leaves out the rows that no function of ours ever put into the queue.
        .withIndex("by_end", (q) =>
          q.eq("status", status).eq("endedAt", undefined).gte("attempt", 0),
        );
      const { rows, more } = await takeWithin(unmarked, jobBytes, PER_CALL);
      for (const { _id } of rows) await ctx.db.patch(_id, { endedAt: now });
      if (more) return 0;
    }
    return null;
  },

  /** Delete the first of the jobs whose time is over, or a part of what belongs to it. */
  jobs: async (ctx, now) => {
    const oldest = now - keptJobs();
    for (const status of ENDED) {
      const job = await ctx.db
        .query("jobs")
        .withIndex("by_end", (q) => q.eq("status", status).gte("endedAt", 0).lt("endedAt", oldest))
        .first();
      if (job === null) continue;
      const touchedAt = Math.max(job.updatedAt ?? 0, job.completedAt ?? 0);
      // It was put back and ended again since it was marked.
      if (touchedAt >= oldest) await ctx.db.patch(job._id, { endedAt: touchedAt });
      else if (await isShown(ctx, job)) await ctx.db.patch(job._id, { endedAt: now });
      else await dropPartOf(ctx, job._id);
      return 0;
    }
    return null;
  },
};

/** Whether documents of `job` are those of a repository, which then goes on pointing to it. */
async function isShown(ctx: MutationCtx, { _id, repositoryId }: Doc<"jobs">): Promise<boolean> {
  if (repositoryId === undefined || (await ctx.db.get(repositoryId)) === null) return false;
  const published = ctx.db
    .query("docs")
    .withIndex("by_job_attempt", (q) => q.eq("jobId", _id).gte("attempt", 0));
  return (await published.first()) !== null;
}

/** Delete the first of `rows`; whether to go on, from the beginning. */
async function dropRows<Row extends { _id: Id<DroppedTable> }>(
  ctx: MutationCtx,
  rows: AsyncIterable<Row>,
  sizeOf: (row: Row) => number,
): Promise<Next> {
  const { rows: some, more } = await takeWithin(rows, sizeOf, PER_CALL);
  for (const { _id } of some) await ctx.db.delete(_id);
  return more ? 0 : null;
}

/** Those of the first of `rows` whose attempt can hand in nothing any more; where to go on. */
async function unownedOf<Row extends Doc<"stagedDocs"> | Doc<"uploads">>(
  ctx: MutationCtx,
  rows: AsyncIterable<Row>,
  sizeOf: (row: Row) => number,
): Promise<{ unowned: Row[]; next: Next }> {
  const jobs = new Map<Id<"jobs">, Doc<"jobs"> | null>();
  const unowned: Row[] = [];
  let [seen, bytes] = [0, 0];
  for await (const row of rows) {
    let job = jobs.get(row.jobId);
    if (job === undefined) {
      job = await ctx.db.get(row.jobId);
      jobs.set(row.jobId, job);
      bytes += job === null ? 0 : jobBytes(job);
    }
    if (!isOwner(job, row.attempt)) unowned.push(row);
    seen += 1;
    bytes += sizeOf(row);
    if (seen >= PER_CALL.most || bytes >= PER_CALL.bytes) {
      return { unowned, next: row._creationTime };
    }
  }
  return { unowned, next: null };
}
