/** The function that applications and operators read results with. */

import { v } from "convex/values";
import { operatorQuery } from "./access";
import type { Doc, Id, QueryCtx } from "./server";

/** The documents of a job, in order. Where one is stored as a file, `url` has all of it. */
export const list = operatorQuery({
  args: { jobId: v.string() },
  handler: async (ctx, args) => {
    const jobId = ctx.db.normalizeId("jobs", args.jobId);
    if (jobId === null) return { docs: [] };
    const shown = await shownDocuments(ctx, jobId);
    return { docs: await Promise.all(shown.map((row) => documentView(ctx, row))) };
  },
});

/**
 * The documents of the latest attempt, and those that an application put beside them.
 *
 * Where the job completed again, the documents from before are still being deleted: they are not
 * read, because two large results are more than one call may read.
 */
async function shownDocuments(ctx: QueryCtx, jobId: Id<"jobs">): Promise<Doc<"docs">[]> {
  const of = async (attempt: number | undefined) =>
    await ctx.db
      .query("docs")
      .withIndex("by_job_attempt", (q) => q.eq("jobId", jobId).eq("attempt", attempt))
      .collect();
  const last = await ctx.db
    .query("docs")
    .withIndex("by_job_attempt", (q) => q.eq("jobId", jobId))
    .order("desc")
    .first();
  const published = last?.attempt === undefined ? [] : await of(last.attempt);
  const rows = [...(await of(undefined)), ...published];
  return rows.sort((one, other) => one._creationTime - other._creationTime);
}

async function documentView(ctx: QueryCtx, row: Doc<"docs">) {
  const { slug, title, kind, chapterIndex, content, storageId, size, createdAt } = row;
  const url = storageId && ((await ctx.storage.getUrl(storageId)) ?? undefined);
  return { slug, title, kind, chapterIndex, content, url, size, createdAt };
}
