/** The function that applications and operators read results with. */

import { v } from "convex/values";
import { operatorQuery } from "./access";
import type { Doc, QueryCtx } from "./server";

/** The documents of a job, in order. Where one is stored as a file, `url` has all of it. */
export const list = operatorQuery({
  args: { jobId: v.string() },
  handler: async (ctx, args) => {
    const jobId = ctx.db.normalizeId("jobs", args.jobId);
    if (jobId === null) return { docs: [] };
    const rows = await ctx.db
      .query("docs")
      .withIndex("by_job", (q) => q.eq("jobId", jobId))
      .collect();
    // Where the job completed again, the documents from before are still being deleted.
    const latest = Math.max(...rows.map(({ attempt = 0 }) => attempt));
    const shown = rows.filter(({ attempt = latest }) => attempt === latest);
    return { docs: await Promise.all(shown.map((row) => documentView(ctx, row))) };
  },
});

async function documentView(ctx: QueryCtx, row: Doc<"docs">) {
  const { slug, title, kind, chapterIndex, content, storageId, size, createdAt } = row;
  const url = storageId && ((await ctx.storage.getUrl(storageId)) ?? undefined);
  return { slug, title, kind, chapterIndex, content, url, size, createdAt };
}
