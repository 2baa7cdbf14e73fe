/** Which workers there are, for operators: each tells it from time to time. Nothing depends on it. */

import { clippedNote, requireInteger, requireLine } from "./bounds";
import type { MutationCtx, QueryCtx } from "./server";

/** What a worker tells of itself; `state` is in words. */
export type Report = {
  workerId: string;
  instance: string;
  version: string;
  slots: number;
  busy: number;
  state: string;
};

const MOST_SLOTS = 1000;
const MOST_LISTED = 200;

/** Refuse a report that is out of its bounds. */
export function checkReport(report: Report): void {
  requireLine("workerId", report.workerId, 128);
  requireLine("instance", report.instance, 256);
  requireLine("version", report.version, 64);
  requireInteger("slots", report.slots, 0, MOST_SLOTS);
  requireInteger("busy", report.busy, 0, MOST_SLOTS);
}

/** Keep `report` in the place of what the same process told before. */
export async function keepReport(ctx: MutationCtx, report: Report, now: number): Promise<void> {
  const row = { ...report, state: clippedNote(report.state), seenAt: now };
  const earlier = await ctx.db
    .query("workers")
    .withIndex("by_instance", (q) => q.eq("instance", report.instance))
    .unique();
  if (earlier === null) await ctx.db.insert("workers", { ...row, startedAt: now });
  else await ctx.db.patch(earlier._id, row);
}

/** The workers that were seen last, at most 200. */
export async function workersSeen(ctx: QueryCtx) {
  const rows = await ctx.db.query("workers").withIndex("by_seenAt").order("desc").take(MOST_LISTED);
  return rows.map(({ _id, _creationTime, ...worker }) => worker);
}
