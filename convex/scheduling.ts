/** The internal functions that others schedule, by name: there is no generated `internal` here. */

import { makeFunctionReference } from "convex/server";
import { folder } from "./folder";
import type { Id, MutationCtx } from "./server";

export type Expiry = { jobId: Id<"jobs">; attempt: number; heldSince?: number };
/** `attempt` is missing in calls that an earlier version scheduled. */
export type Staged = { jobId: Id<"jobs">; attempt?: number };
export type Earlier = { jobId: Id<"jobs">; attempt: number; after: number };
export type Outdated = { repositoryId: Id<"repositories">; after: number };
export type Uploads = { jobId: Id<"jobs">; attempt: number; after: number };
export type ChoreCall = { chore: string; after: number };

const internal = {
  expire: makeFunctionReference<"mutation", Expiry>(`${folder}upkeep:expire`),
  dropStaged: makeFunctionReference<"mutation", Staged>(`${folder}upkeep:dropStaged`),
  dropEarlier: makeFunctionReference<"mutation", Earlier>(`${folder}upkeep:dropEarlier`),
  dropOutdated: makeFunctionReference<"mutation", Outdated>(`${folder}upkeep:dropOutdated`),
  dropUploads: makeFunctionReference<"mutation", Uploads>(`${folder}upkeep:dropUploads`),
  retain: makeFunctionReference<"mutation", ChoreCall>(`${folder}upkeep:retain`),
};

/** For the crons. */
export const sweep = makeFunctionReference<"mutation">(`${folder}upkeep:sweep`);
export const beat = makeFunctionReference<"mutation">(`${folder}upkeep:beat`);
export const retention = makeFunctionReference<"mutation">(`${folder}upkeep:retention`);

/** Look at the lease of an attempt at `at`. */
export async function scheduleExpiry(ctx: MutationCtx, at: number, expiry: Expiry): Promise<void> {
  await ctx.scheduler.runAt(at, internal.expire, expiry);
}

/** Delete what a job's attempts up to this one staged, at once but not in this call. */
export async function scheduleDropStaged(ctx: MutationCtx, staged: Staged): Promise<void> {
  await ctx.scheduler.runAfter(0, internal.dropStaged, staged);
}

/** Delete the documents of a job's earlier attempts, at once but not in this call. */
export async function scheduleDropEarlier(ctx: MutationCtx, earlier: Earlier): Promise<void> {
  await ctx.scheduler.runAfter(0, internal.dropEarlier, earlier);
}

/** Delete the documents of a repository's other jobs, at once but not in this call. */
export async function scheduleDropOutdated(ctx: MutationCtx, outdated: Outdated): Promise<void> {
  await ctx.scheduler.runAfter(0, internal.dropOutdated, outdated);
}

/** Delete the files that an attempt announced in vain, at once but not in this call. */
export async function scheduleDropUploads(ctx: MutationCtx, uploads: Uploads): Promise<void> {
  await ctx.scheduler.runAfter(0, internal.dropUploads, uploads);
}

/** Do a chore of retention, at once but not in this call. */
export async function scheduleChore(ctx: MutationCtx, call: ChoreCall): Promise<void> {
  await ctx.scheduler.runAfter(0, internal.retain, call);
}
