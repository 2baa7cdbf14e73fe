/** What a job is about: the repository that it names by row, or the clone URL that it carries. */

import type { Doc, QueryCtx } from "./server";

export type Source = {
  /** For people: `owner/name`, or the clone URL. */
  repository: string;
  cloneUrl: string;
  /** Missing for the remote's default branch. */
  ref?: string;
};

const FULL_NAME = /^[\w.-]+\/[\w.-]+$/;

/** What `job` is about, or why nothing can be cloned for it. */
export async function sourceOf(
  ctx: QueryCtx,
  job: Doc<"jobs">,
): Promise<Source | { fault: string }> {
  if (job.repositoryId === undefined) {
    if (job.cloneUrl === undefined) return { fault: "the job names no repository" };
    return { repository: job.cloneUrl, cloneUrl: job.cloneUrl, ref: job.ref };
  }
  const repository = await ctx.db.get(job.repositoryId);
  if (repository === null) return { fault: "the repository that the job names was deleted" };
  const source = sourceIn(repository);
  return "fault" in source ? source : { ...source, ref: job.ref ?? source.ref };
}

/** What a job about all of `repository` is about, or why nothing can be cloned from it. */
export function sourceIn(repository: Doc<"repositories">): Source | { fault: string } {
  const { fullName, defaultBranch } = repository;
  if (!FULL_NAME.test(fullName)) {
    return { fault: `the repository's name is not owner/name: ${fullName}` };
  }
  const cloneUrl = `https://github.com/${fullName}.git`;
  return { repository: fullName, cloneUrl, ref: defaultBranch };
}
