/// <reference types="vite/client" />
/**
 * A deployment in this process: the real functions on Convex's own test engine, under a clock that
 * only the test moves.
 */

import { type GenericSchema, makeFunctionReference, type SchemaDefinition } from "convex/server";
import { ConvexError } from "convex/values";
import { convexTest } from "convex-test";
import { expect, vi } from "vitest";
import { documentDigest, sha256Hex } from "../../convex/digests";
import ownSchema from "../../convex/schema";
import type { Doc, Id, MutationCtx } from "../../convex/server";

export const WORKER_KEY = "a worker's key";
export const OPERATOR_KEY = "an operator's key";
export const NOW = Date.UTC(2026, 0, 5);

export const SECOND = 1_000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

export const functionModules = import.meta.glob("../../convex/*.ts");

/** The engine finds the root of the functions by this folder, which exists only after a deploy. */
const generated = { "../../convex/_generated/api.js": async () => ({}) };

/** What an answer looks like to a caller: whatever JSON came back. */
// biome-ignore lint/suspicious/noExplicitAny: tests read answers as a client without types does
type Answer = any;
type Args = Record<string, unknown>;

export type Token = { jobId: string; leaseToken: string; attempt: number };

export type Deployment = Awaited<ReturnType<typeof deploy>>;

/** Start an empty deployment that knows one key of each kind. */
export async function deploy({
  modules = { ...functionModules, ...generated },
  folder = "",
  schema = ownSchema,
}: {
  modules?: Record<string, () => Promise<unknown>>;
  folder?: string;
  schema?: SchemaDefinition<GenericSchema, boolean>;
} = {}) {
  vi.useFakeTimers({ now: NOW });
  process.env.FONDATION_WORKER_KEY_SHA256 = await sha256Hex(WORKER_KEY);
  process.env.FONDATION_OPERATOR_KEY_SHA256 = await sha256Hex(OPERATOR_KEY);
  const engine = convexTest({ schema, modules, transactionLimits: true });

  const call = {
    query: async (name: string, args: Args = {}): Promise<Answer> =>
      await engine.query(makeFunctionReference<"query">(folder + name), args),
    mutation: async (name: string, args: Args = {}): Promise<Answer> =>
      await engine.mutation(makeFunctionReference<"mutation">(folder + name), args),
  };
  const worker = { workerKey: WORKER_KEY };
  const operator = { operatorKey: OPERATOR_KEY };

  return {
    ...call,
    engine,
    /** Call a worker's mutation with its key. */
    work: async (name: string, args: Args = {}) =>
      await call.mutation(`queue:${name}`, { ...worker, ...args }),
    /** Subscribe once. */
    watch: async (name: string) => await call.query(`queue:${name}`, worker),
    enqueue: async (args: Args = {}): Promise<string> => {
      const job = { ...operator, prompt: "Describe it.", cloneUrl: "https://example.org/a.git" };
      return (await call.mutation("jobs:enqueue", { ...job, ...args })).jobId;
    },
    job: async (jobId: string) => await call.query("jobs:get", { ...operator, jobId }),
    jobs: async (args: Args = {}) => await call.query("jobs:list", { ...operator, ...args }),
    docs: async (jobId: string) =>
      (await call.query("docs:list", { ...operator, jobId })).docs as Answer[],
    /** The row as it is stored. */
    row: async (jobId: string): Promise<Doc<"jobs">> =>
      await inside(async (ctx) => {
        const row = await ctx.db.get(jobId as Id<"jobs">);
        if (row === null) throw new Error(`no job ${jobId}`);
        return row;
      }),
    inside,
    /** Claim with a new token; the token's three arguments, and the answer. */
    claim: async (args: Args = {}) => {
      const leaseToken = newToken();
      const claim = { workerId: "w", instance: "w-1", leaseToken, leaseMs: 5 * MINUTE };
      const answer = await call.mutation("queue:claim", { ...worker, ...claim, ...args });
      const token: Token = { jobId: answer.job?.id, leaseToken, attempt: answer.job?.attempt };
      return { answer, token };
    },
    /** Let time pass, and what is scheduled run. */
    pass: async (milliseconds: number) => {
      await vi.advanceTimersByTimeAsync(milliseconds);
      await engine.finishInProgressScheduledFunctions();
    },
    /** Let what is scheduled at once run to its end, call after call, in some milliseconds. */
    settle: async () => await engine.finishAllScheduledFunctions(() => vi.advanceTimersByTime(1)),
    /** Move the clock as an outage does: nothing that is scheduled runs. */
    skip: (milliseconds: number) => vi.setSystemTime(Date.now() + milliseconds),
    cron: async (name: "sweep" | "beat" | "retention") => await call.mutation(`upkeep:${name}`),
  };

  /** Do something to the tables, as an application's own function would. */
  async function inside<Result>(act: (ctx: MutationCtx) => Promise<Result>): Promise<Result> {
    return (await engine.run(act as Parameters<typeof engine.run>[0])) as Result;
  }
}

let tokens = 0;

/** A lease token that nobody used before. */
export function newToken(): string {
  tokens += 1;
  return `token-${String(tokens).padStart(16, "0")}`;
}

/** A document to hand in, with its digest. */
export async function handIn(index: number, fields: Args = {}) {
  const document = {
    index,
    slug: `chapter-${index}`,
    title: `Chapter ${index}`,
    kind: "chapter",
    chapterIndex: index,
    content: `Text of chapter ${index}.`,
    ...fields,
  };
  return { document, digest: await documentDigest(document) };
}

/** What `call` is refused with. */
export async function refusal(call: Promise<unknown>): Promise<Answer> {
  const error = await call.then(
    (answer) => expect.fail(`not refused: ${JSON.stringify(answer)}`),
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof ConvexError)) throw error;
  return error.data;
}
