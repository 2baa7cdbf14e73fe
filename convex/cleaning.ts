/**
 * Deleting what is not needed any more, a little in each call.
 *
 * Only rows and files that these functions made are touched, never one of the application.
 */

import { HOUR, MIB } from "./bounds";
import { storedSha256, utf8Length } from "./digests";
import { isOwner } from "./leases";
import { takeWithin } from "./reading";
import type { Earlier, Outdated, Staged, Uploads } from "./scheduling";
import type { Doc, Id, MutationCtx } from "./server";

/** A document that `complete` made: only those carry the attempt that they are of. */
type Published = Doc<"docs"> & { attempt: number };

/** Deleting a row reads it again, so this is a quarter of what one call may read. */
const PER_CALL = { most: 100, bytes: 4 * MIB };

/** An address for an upload is good for an hour, and so is the time that the upload may take. */
const LONGEST_UPLOAD = 2 * HOUR;
/** More checksums than this an attempt announces only by mistake: they are seen to in turns. */
const MOST_ANNOUNCED = 1000;

/**
 * Delete staged documents of a job; whether there may be more.
 *
 * Those of an attempt after `attempt` stay: a front end may have put the job back meanwhile.
 */
export async function dropStagedOf(
  ctx: MutationCtx,
  { jobId, attempt = Number.MAX_SAFE_INTEGER }: Staged,
): Promise<boolean> {
  const staged = ctx.db
    .query("stagedDocs")
    .withIndex("by_job", (q) => q.eq("jobId", jobId).lte("attempt", attempt));
  const { rows, more } = await takeWithin(staged, contentBytes, PER_CALL);
  for (const row of rows) await dropWithFile(ctx, row);
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
  for (const row of rows) if (isPublished(row) && isOld(row)) await dropWithFile(ctx, row);
  return more ? (rows.at(-1)?._creationTime ?? null) : null;
}

function isPublished(document: Doc<"docs">): document is Published {
  return document.attempt !== undefined;
}

/** Delete a document, and its file when no other document has it. */
export async function dropWithFile(
  ctx: MutationCtx,
  document: Doc<"docs"> | Doc<"stagedDocs">,
): Promise<void> {
  await ctx.db.delete(document._id);
  const { storageId } = document;
  if (storageId !== undefined) await dropFile(ctx, storageId);
}

/** Delete a stored file that no document names. */
async function dropFile(ctx: MutationCtx, storageId: Id<"_storage">): Promise<void> {
  const isStored = (await ctx.db.system.get(storageId)) !== null;
  if (isStored && !(await isNamed(ctx, storageId))) await ctx.storage.delete(storageId);
}

async function isNamed(ctx: MutationCtx, storageId: Id<"_storage">): Promise<boolean> {
  const published = await ctx.db
    .query("docs")
    .withIndex("by_storageId", (q) => q.eq("storageId", storageId))
    .first();
  const staged = await ctx.db
    .query("stagedDocs")
    .withIndex("by_storageId", (q) => q.eq("storageId", storageId))
    .first();
  return published !== null || staged !== null;
}

/** Delete an ended job, or a part of what belongs to it: what is deleted first is not the job. */
export async function dropPartOf(ctx: MutationCtx, jobId: Id<"jobs">): Promise<void> {
  const documents = ctx.db
    .query("docs")
    // The lower bound leaves out the documents that are not ours, which sort first.
    .withIndex("by_job_attempt", (q) => q.eq("jobId", jobId).gte("attempt", 0));
  const { rows, more } = await takeWithin(documents, contentBytes, PER_CALL);
  for (const row of rows) await dropWithFile(ctx, row);
  if (more || (await dropStagedOf(ctx, { jobId }))) return;
  const attempts = await ctx.db
    .query("attempts")
    .withIndex("by_job", (q) => q.eq("jobId", jobId))
    .take(PER_CALL.most);
  for (const { _id } of attempts) await ctx.db.delete(_id);
  if (attempts.length < PER_CALL.most) await ctx.db.delete(jobId);
}

/**
 * Delete the files that an attempt announced and that no document names.
 *
 * A file does not say who uploaded it: it is known by its checksum, among the files of the time in
 * which the attempt could upload. Looks at files made later than `after`; where to go on, or null
 * when all were seen.
 */
export async function dropUploadsOf(
  ctx: MutationCtx,
  { jobId, attempt, after }: Uploads,
): Promise<number | null> {
  if (isOwner(await ctx.db.get(jobId), attempt)) return null;
  const announced = await ctx.db
    .query("uploads")
    .withIndex("by_job", (q) => q.eq("jobId", jobId).eq("attempt", attempt))
    .take(MOST_ANNOUNCED);
  if (announced.length === 0) return null;
  const checksums = new Set(announced.map(({ sha256 }) => sha256));
  const first = Math.min(...announced.map(({ _creationTime }) => _creationTime));
  const last = Math.max(...announced.map(({ announcedAt }) => announcedAt)) + LONGEST_UPLOAD;
  const files = await ctx.db.system
    .query("_storage")
    .withIndex("by_creation_time", (q) =>
      q.gt("_creationTime", Math.max(first - 1, after)).lt("_creationTime", last),
    )
    .take(PER_CALL.most);
  for (const file of files) {
    if (checksums.has(storedSha256(file.sha256))) await dropFile(ctx, file._id);
  }
  const lastSeen = files.at(-1);
  if (lastSeen !== undefined && files.length === PER_CALL.most) return lastSeen._creationTime;
  for (const { _id } of announced) await ctx.db.delete(_id);
  return null;
}

function contentBytes({ content }: { content: string }): number {
  return utf8Length(content);
}
