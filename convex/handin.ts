/**
 * Handing in a result: documents are staged, and become visible all at once or not at all.
 *
 * Readers never see half a result, and a result that was handed in twice is there once.
 */

import {
  KIB,
  MIB,
  MINUTE,
  MOST_DOCUMENTS,
  requireBytes,
  requireEntries,
  requireInteger,
  requireLine,
  requireSha256,
} from "./bounds";
import { type DigestedDocument, documentDigest, storedSha256, utf8Length } from "./digests";
import { invalid, notStaged } from "./errors";
import { attemptOf, type ClaimedJob } from "./leases";
import { scheduleDropEarlier, scheduleDropOutdated, scheduleDropStaged } from "./scheduling";
import type { Doc, Id, MutationCtx } from "./server";

/** A document as a worker hands it in. */
export type HandedDocument = Omit<DigestedDocument, "kind"> & {
  index: number;
  kind: Doc<"docs">["kind"];
  storageId?: string;
  size?: number;
};

const MOST_INLINE_BYTES = 64 * KIB;
/** 16 KiB of a stored file and a note about the rest. */
const MOST_PREVIEW_BYTES = 17 * KIB;
/** One mutation may write 16 MiB: these, and a preview of each stored file, have to fit. */
const MOST_INLINE_SUM = 4 * MIB;
const MOST_CALL_BYTES = 4 * MIB;

/** Refuse a call whose documents are too many, too large or not well-formed. */
export function checkDocuments(documents: HandedDocument[]): void {
  requireEntries("docs", documents, MOST_DOCUMENTS);
  for (const document of documents) checkDocument(document);
  const bytes = documents.reduce((sum, { content }) => sum + utf8Length(content), 0);
  if (bytes > MOST_CALL_BYTES) throw invalid("docs", `must have at most ${MOST_CALL_BYTES} bytes`);
}

function checkDocument(document: HandedDocument): void {
  const isFile = document.storageId !== undefined;
  requireInteger("docs.index", document.index, 0, MOST_DOCUMENTS - 1);
  requireLine("docs.slug", document.slug, 256);
  requireBytes("docs.title", document.title, 1, KIB);
  requireInteger("docs.chapterIndex", document.chapterIndex, -1, 1e6);
  const most = isFile ? MOST_PREVIEW_BYTES : MOST_INLINE_BYTES;
  requireBytes("docs.content", document.content, 0, most);
  if (!isFile && document.fileSha256 !== undefined) {
    throw invalid("docs.fileSha256", "stands only beside a storageId");
  }
  if (isFile) requireSha256("docs.fileSha256", document.fileSha256 ?? "");
  if (document.size !== undefined) {
    requireInteger("docs.size", document.size, 0, Number.MAX_SAFE_INTEGER);
  }
}

/** Stage `documents` for the latest attempt of `job`, each in the place of what was there. */
export async function stage(
  ctx: MutationCtx,
  job: ClaimedJob,
  documents: HandedDocument[],
  now: number,
): Promise<void> {
  let added = 0;
  for (const document of documents) added += await stageOne(ctx, job, document, now);
  await countInline(ctx, job, added);
}

/** Stage one document; how many inline bytes its attempt has more than before. */
async function stageOne(
  ctx: MutationCtx,
  job: ClaimedJob,
  document: HandedDocument,
  now: number,
): Promise<number> {
  const { fileSha256, storageId: file, ...fields } = document;
  const { _id: jobId, attempt } = job;
  const storageId = file === undefined ? undefined : await checkedFile(ctx, job, document, file);
  const digest = await documentDigest(document);
  const row = { ...fields, jobId, attempt, storageId, digest, stagedAt: now };
  const earlier = await ctx.db
    .query("stagedDocs")
    .withIndex("by_job", (q) =>
      q.eq("jobId", jobId).eq("attempt", attempt).eq("index", document.index),
    )
    .unique();
  if (earlier === null) await ctx.db.insert("stagedDocs", row);
  else await ctx.db.replace(earlier._id, row);
  return inlineBytes(row) - (earlier === null ? 0 : inlineBytes(earlier));
}

function inlineBytes(document: { content: string; storageId?: string }): number {
  return document.storageId === undefined ? utf8Length(document.content) : 0;
}

/** Keep the sum of what an attempt staged inline, so that it can be published in one call. */
async function countInline(ctx: MutationCtx, job: ClaimedJob, added: number): Promise<void> {
  const row = await attemptOf(ctx, job.leaseToken);
  if (row === null) return;
  const inlineBytes = (row.inlineBytes ?? 0) + added;
  if (inlineBytes > MOST_INLINE_SUM) {
    throw invalid(
      "docs",
      `an attempt stages at most ${MOST_INLINE_SUM} bytes inline; upload files`,
    );
  }
  await ctx.db.patch(row._id, { inlineBytes });
}

/**
 * The stored file of a document, which this attempt announced.
 *
 * One that is gone or broken off has to be uploaded again: that must not cost the result.
 */
async function checkedFile(
  ctx: MutationCtx,
  job: ClaimedJob,
  { index, fileSha256 = "" }: HandedDocument,
  file: string,
): Promise<Id<"_storage">> {
  const storageId = ctx.db.system.normalizeId("_storage", file);
  if (storageId === null) throw invalid("docs.storageId", "is not the id of a file");
  const announced = await announcement(ctx, job, fileSha256);
  if (announced === null) {
    throw invalid("docs.fileSha256", "was not announced by uploadUrl for this attempt");
  }
  const stored = await ctx.db.system.get(storageId);
  const isWhole = stored !== null && storedSha256(stored.sha256) === fileSha256;
  // One that was there before is not the upload but the application's, and not ours to delete.
  const since = announced._creationTime - MINUTE;
  if (!isWhole || stored._creationTime < since) throw notStaged([index]);
  return storageId;
}

/** Write down that the latest attempt of `job` uploads a file, so that its file is known as ours. */
export async function announce(
  ctx: MutationCtx,
  job: ClaimedJob,
  sha256: string,
  now: number,
): Promise<void> {
  const earlier = await announcement(ctx, job, sha256);
  const { _id: jobId, attempt } = job;
  // The file may be uploaded anew: it is looked for up to some time after this.
  if (earlier !== null) await ctx.db.patch(earlier._id, { announcedAt: now });
  else await ctx.db.insert("uploads", { jobId, attempt, sha256, announcedAt: now });
}

async function announcement(
  ctx: MutationCtx,
  job: ClaimedJob,
  sha256: string,
): Promise<Doc<"uploads"> | null> {
  return await ctx.db
    .query("uploads")
    .withIndex("by_job", (q) =>
      q.eq("jobId", job._id).eq("attempt", job.attempt).eq("sha256", sha256),
    )
    .first();
}

/**
 * Make the documents with these digests the documents of `job`, and those of its repository.
 *
 * Refuses, with their indexes, while one of them is not staged by the latest attempt.
 */
export async function publish(
  ctx: MutationCtx,
  job: ClaimedJob,
  digests: string[],
  now: number,
): Promise<void> {
  const staged = await stagedBy(ctx, job);
  const byIndex = new Map(staged.map((row) => [row.index, row]));
  const missing = digests.flatMap((digest, i) => (byIndex.get(i)?.digest === digest ? [] : [i]));
  if (missing.length > 0) throw notStaged(missing);
  for (const row of staged.slice(0, digests.length)) {
    const { slug, title, kind, chapterIndex, content, storageId, size, jobId, attempt } = row;
    const document = { slug, title, kind, chapterIndex, content, storageId, size, jobId, attempt };
    await ctx.db.insert("docs", { ...document, repositoryId: job.repositoryId, createdAt: now });
  }
  // Not deleted here: that would read all of it a second time, and the limits are for one.
  await scheduleDropStaged(ctx, { jobId: job._id, attempt: job.attempt });
  await scheduleDropEarlier(ctx, { jobId: job._id, attempt: job.attempt, after: 0 });
  await makeCurrent(ctx, job).catch((error: unknown) => {
    // The table may be the application's own: what does not fit there must not cost the result.
    const [reason] = String(error).split("\n", 1);
    console.warn(`job ${job._id}: its repository cannot point to it: ${reason}`);
  });
}

async function stagedBy(ctx: MutationCtx, job: ClaimedJob): Promise<Doc<"stagedDocs">[]> {
  return await ctx.db
    .query("stagedDocs")
    .withIndex("by_job", (q) => q.eq("jobId", job._id).eq("attempt", job.attempt))
    .take(MOST_DOCUMENTS);
}

/**
 * Let the repository point to `job`, unless a job that was created later completed before it.
 *
 * Whichever completes first, only the documents of the later created one remain in the end.
 */
async function makeCurrent(ctx: MutationCtx, job: ClaimedJob): Promise<void> {
  const repository = job.repositoryId === undefined ? null : await ctx.db.get(job.repositoryId);
  if (repository === null) return;
  const current = repository.currentJobId && (await ctx.db.get(repository.currentJobId));
  const isLatest = !current || current._creationTime <= job._creationTime;
  if (isLatest) await ctx.db.patch(repository._id, { currentJobId: job._id });
  await scheduleDropOutdated(ctx, { repositoryId: repository._id, after: 0 });
}
