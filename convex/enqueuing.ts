/** What a new job refers to: its twin that has not ended, its user, its repository. */

import type { NewJob } from "./bounds";
import { invalid } from "./errors";
import type { Doc, Id, MutationCtx, QueryCtx } from "./server";
import { sourceIn } from "./sources";
import { UNFINISHED } from "./steering";

/**
 * A job with this key that has not ended, or null.
 *
 * The latest of each status is enough: one that somebody cancelled before it does not count.
 */
export async function unfinishedTwin(
  ctx: QueryCtx,
  dedupeKey: string | undefined,
): Promise<Doc<"jobs"> | null> {
  if (dedupeKey === undefined) return null;
  for (const status of UNFINISHED) {
    const job = await ctx.db
      .query("jobs")
      .withIndex("by_dedupeKey_status", (q) => q.eq("dedupeKey", dedupeKey).eq("status", status))
      .order("desc")
      .first();
    if (job !== null && !job.cancelRequested) return job;
  }
  return null;
}

/** Whose job it is, and the row of the repository that it names instead of a clone URL. */
export async function ownership(
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

export async function existing<Table extends "users" | "repositories" | "jobs">(
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
