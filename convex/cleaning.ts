/**
 * Deleting what is not needed any more, a little in each call.
 *
 * Only rows and files that these functions made are touched, never one of the application.
 */

import { MIB } from "./bounds";
import { utf8Length } from "./digests";
import { takeWithin } from "./reading";
import type { Earlier, Outdated } from "./scheduling";
import type { Doc, Id, MutationCtx } from "./server";

/** A document that `complete` made: only those carry the attempt that they are of. */
type Published = Doc<"docs"> & { attempt: number };

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
 * Delete documents that attempts of a job published before `attempt` did.
 *
 * Looks at documents made later than `after`; where to go on, or null when all were seen.
 */
export async function dropEarlierOf(
  ctx: MutationCtx,
  { jobId, attempt, after }: Earlier,
): Promise<number | null> {
  const documents = ctx.db
    .query("docs")
    .withIndex("by_job", (q) => q.eq("jobId", jobId).gt("_creationTime", after));
  return await dropSome(ctx, documents, (document) => document.attempt < attempt);
}

/**
 * Delete documents of a repository's jobs other than its current one.
 *
 * Looks at documents made later than `after`; where to go on, or null when all were seen.
 */
export async function dropOutdatedOf(
  ctx: MutationCtx,
  { repositoryId, after }: Outdated,
): Promise<number | null> {
  const current = (await ctx.db.get(repositoryId))?.currentJobId;
  if (current === undefined) return null;
  const documents = ctx.db
    .query("docs")
    .withIndex("by_repository", (q) =>
      q.eq("repositoryId", repositoryId).gt("_creationTime", after),
    );
  return await dropSome(ctx, documents, (document) => document.jobId !== current);
}

/** Delete those of the first documents that nobody needs; when the last of them was made. */
async function dropSome(
  ctx: MutationCtx,
  documents: AsyncIterable<Doc<"docs">>,
  isOld: (document: Published) => boolean,
): Promise<number | null> {
  const { rows, more } = await takeWithin(documents, contentBytes, PER_CALL);
  for (const row of rows) if (isPublished(row) && isOld(row)) await dropDocument(ctx, row);
  return more ? (rows.at(-1)?._creationTime ?? null) : null;
}

function isPublished(document: Doc<"docs">): document is Published {
  return document.attempt !== undefined;
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
