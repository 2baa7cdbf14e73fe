/**
 * The log of a job: lines that workers append, in order, once.
 *
 * A line's `seq` is made of the attempt and the line's number in it, so that a call which is
 * repeated finds its lines. The sum of a job's lines has a row of its own: appending writes no job.
 */

import { clipped, KIB, MIB, requireInteger, requireNumber } from "./bounds";
import { utf8Length } from "./digests";
import { invalid } from "./errors";
import type { ClaimedJob } from "./leases";
import { takeWithin } from "./reading";
import type { Doc, Id, MutationCtx, QueryCtx } from "./server";

/** A line as a worker says it; `n` counts within the attempt. */
export type LogLine = { n: number; at: number; level: Doc<"jobLogs">["level"]; msg: string };

const LINES_OF_AN_ATTEMPT = 1_000_000;
const MOST_LINES = 100;
const MOST_LINE_BYTES = 4 * KIB;
const MOST_JOB_BYTES = 256 * KIB;
/** One answer may have 16 MiB, and a line of a front end a megabyte. */
const LISTED_BYTES = 8 * MIB;

const FULL = `this job's log has ${MOST_JOB_BYTES / KIB} KiB: what follows is not kept`;

/** Refuse a call whose lines are too many or not well-formed. */
export function checkLines(lines: LogLine[]): void {
  if (lines.length > MOST_LINES) throw invalid("lines", `must have at most ${MOST_LINES} entries`);
  for (const { n, at } of lines) {
    requireInteger("lines.n", n, 0, LINES_OF_AN_ATTEMPT - 1);
    requireNumber("lines.at", at, 0, Number.MAX_SAFE_INTEGER);
  }
}

/** Keep those of `lines` that are not kept yet; whether the log takes no more. */
export async function appendLines(
  ctx: MutationCtx,
  job: ClaimedJob,
  lines: LogLine[],
  now: number,
): Promise<boolean> {
  const sum = await sumOf(ctx, job._id);
  let { bytes, full } = sum ?? { bytes: 0, full: false };
  for (const { n, at, level, msg } of lines) {
    if (full) break;
    const seq = job.attempt * LINES_OF_AN_ATTEMPT + n;
    if (await isKept(ctx, job._id, seq)) continue;
    const text = clipped(msg, MOST_LINE_BYTES);
    // Its end counts as well: there may be very many lines without a text.
    const size = utf8Length(text) + 1;
    full = bytes + size > MOST_JOB_BYTES;
    bytes += full ? 0 : size;
    const row = { jobId: job._id, attempt: job.attempt, seq, ts: at, level, loggedAt: now };
    await ctx.db.insert("jobLogs", { ...row, msg: full ? FULL : text });
  }
  const row = { jobId: job._id, bytes, full, loggedAt: now };
  if (sum === null) await ctx.db.insert("logSums", row);
  else if (sum.bytes !== bytes || sum.full !== full) await ctx.db.patch(sum._id, row);
  return full;
}

/** The lines of a job after `after`, at most `limit`; `more` says that there may be others. */
export async function linesOf(ctx: QueryCtx, jobId: Id<"jobs">, after: number, limit: number) {
  const lines = ctx.db
    .query("jobLogs")
    .withIndex("by_job_seq", (q) => q.eq("jobId", jobId).gt("seq", after));
  const bounds = { most: limit, bytes: LISTED_BYTES };
  const { rows, more } = await takeWithin(lines, ({ msg }) => utf8Length(msg), bounds);
  return { lines: rows.map(lineView), more };
}

/** What is kept of the sizes of a job's lines, or null before the first. */
export async function sumOf(ctx: QueryCtx, jobId: Id<"jobs">): Promise<Doc<"logSums"> | null> {
  return await ctx.db
    .query("logSums")
    .withIndex("by_job", (q) => q.eq("jobId", jobId))
    .unique();
}

async function isKept(ctx: QueryCtx, jobId: Id<"jobs">, seq: number): Promise<boolean> {
  const row = await ctx.db
    .query("jobLogs")
    .withIndex("by_job_seq", (q) => q.eq("jobId", jobId).eq("seq", seq))
    .first();
  return row !== null;
}

/** A line as operators see it. Those that a front end wrote belong to no attempt. */
function lineView({ seq, attempt = 0, ts, level, msg }: Doc<"jobLogs">) {
  return { seq, attempt, at: ts, level, msg };
}
