/** A job as applications and operators see it: never with a token. */

import { DEFAULT_MAX_ATTEMPTS } from "./bounds";
import type { Doc, QueryCtx } from "./server";
import { sourceOf } from "./sources";

/** What `jobs:get` and `jobs:list` answer for `job`. */
export async function jobView(ctx: QueryCtx, job: Doc<"jobs">) {
  const source = await sourceOf(ctx, job);
  const named = "fault" in source ? { repository: source.fault, cloneUrl: "" } : source;
  return {
    id: job._id,
    status: job.status,
    ...named,
    commit: job.commit,
    subdirectory: job.subdirectory,
    prompt: job.prompt,
    priority: 0 - (job.rank ?? 0),
    runAt: job.runAt,
    attempt: job.attempt ?? 0,
    attempts: job.attempts ?? 0,
    maxAttempts: job.maxAttempts ?? DEFAULT_MAX_ATTEMPTS,
    model: job.model,
    timeoutMs: job.timeoutMs,
    workerId: job.workerId,
    leaseUntil: job.leaseUntil,
    progress: job.progress,
    currentStep: job.currentStep,
    totalSteps: job.totalSteps,
    docsCount: job.docsCount,
    result: job.result,
    resolvedCommit: job.resolvedCommit,
    usage: job.usage,
    error: job.error,
    errorClass: job.errorClass,
    lastError: job.lastError,
    createdAt: job.createdAt,
    updatedAt: job.updatedAt,
    completedAt: job.completedAt,
  };
}
