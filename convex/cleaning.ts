/**
 * Deleting what is not needed any more, a little in each call.
 *
 * Only rows and files that these functions made are touched, never one of the application.
 */

import { MIB } from "./bounds";
import { utf8Length } from "./digests";
import { takeWithin } from "./reading";
import type { Doc, Id, MutationCtx } from "./server";

/** Deleting a row reads it again, so this is a quarter of what one call may read. */
const PER_CALL = { most: 100, bytes: 4 * MIB };

/** Delete staged documents of a job; whether there may be more. */
export async function dropStagedOf(ctx: MutationCtx, jobId: Id<"jobs">): Promise<boolean> {
  const staged = ctx.db.query("stagedDocs").withIndex("by_job", (q) => q.eq("jobId", jobId));
  const { rows, more } = await takeWithin(staged, contentBytes, PER_CALL);
  for (const row of rows) await ctx.db.delete(row._id);
  return more;
}

/**
 * Delete documents of the jobs that a repository's current one replaced.
 *
 * Looks at documents made later than `after`; where to go on, or null when all were seen.
 */
export async function dropOutdatedOf(
  ctx: MutationCtx,
  repositoryId: Id<"repositories">,
  after: number,
): Promise<number | null> {
  const current = (await ctx.db.get(repositoryId))?.currentJobId;
  if (current === undefined) return null;
  const documents = ctx.db
    .query("docs")
    .withIndex("by_repository", (q) =>
      q.eq("repositoryId", repositoryId).gt("_creationTime", after),
    );
  const { rows, more } = await takeWithin(documents, contentBytes, PER_CALL);
  for (const row of rows) {
    if (row.attempt !== undefined && row.jobId !== current) await dropDocument(ctx, row);
  }
  return more ? (rows.at(-1)?._creationTime ?? null) : null;
}

async function dropDocument(ctx: MutationCtx, document: Doc<"docs">): Promise<void> {
  const { storageId } = document;
  // Two documents of a result with the same contents may share one file.
  const isStored = storageId !== undefined && (await ctx.db.system.get(storageId)) !== null;
  if (isStored) await ctx.storage.delete(storageId);
  await ctx.db.delete(document._id);
}

function contentBytes({ content }: { content: string }): number {
  return utf8Length(content);
}
