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
  if (!FULL_NAME.test(repository.fullName)) {
    return { fault: `the repository's name is not owner/name: ${repository.fullName}` };
  }
  return {
    repository: repository.fullName,
    cloneUrl: `https://github.com/${repository.fullName}.git`,
    ref: job.ref ?? repository.defaultBranch,
  };
}
