/** Rows as front ends of the earlier Node worker write them, and every function that may meet them. */

import type { WithoutSystemFields } from "convex/server";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Doc, Id } from "../../convex/server";
import {
  DAY,
  type Deployment,
  deploy,
  functionModules,
  HOUR,
  handIn,
  MINUTE,
  NOW,
  newToken,
  OPERATOR_KEY,
  WORKER_KEY,
} from "./deployment";

type Row = WithoutSystemFields<Doc<"jobs">>;

const STATUSES = [
  "pending",
  "claimed",
  "running",
  "cloning",
  "analyzing",
  "gathering",
  "completed",
  "failed",
  "canceled",
  "dead",
] as const;
const IN_FLIGHT = ["claimed", "running", "cloning", "analyzing", "gathering"];

/** What its first front end wrote into a row, and what its later ones did. */
const SHAPES: Record<string, Partial<Row>> = {
  bare: {},
  full: {
    runAt: NOW - HOUR,
    attempts: 2,
    maxAttempts: 5,
    lockedBy: "worker-1",
    leaseUntil: NOW - DAY,
    dedupeKey: "k",
    lastError: "e",
    error: "e",
    updatedAt: NOW - DAY,
    completedAt: NOW - DAY,
    progress: "Étape 1/6",
    currentStep: 0,
    totalSteps: 6,
    docsCount: 0,
    runId: "run_1",
    result: null,
    regenerationStats: { inserted: 1, updated: 0, skipped: 0, rejected: 0, deleted: 0 },
  },
  "held by its own worker": { lockedBy: "worker-1", leaseUntil: NOW + HOUR, attempts: 0 },
  "about to be cancelled": { cancelRequested: true, runAt: NOW },
};
const rows = STATUSES.flatMap((status) =>
  Object.entries(SHAPES).map(([shape, fields]) => ({ status, shape, fields })),
);

let convex: Deployment;
let repositoryId: Id<"repositories">;
let userId: Id<"users">;
beforeEach(async () => {
  convex = await deploy();
  await convex.inside(async (ctx) => {
    const user = { githubId: "1", username: "ada", githubAccessToken: "obf_x", createdAt: NOW };
    userId = await ctx.db.insert("users", user);
    const names = { githubRepoId: "2", name: "engine", fullName: "ada/engine" };
    const repository = { userId, ...names, defaultBranch: "trunk" };
    repositoryId = await ctx.db.insert("repositories", repository);
  });
});
afterEach(() => vi.useRealTimers());

async function insert(status: Row["status"], fields: Partial<Row>): Promise<Id<"jobs">> {
  const row = { userId, repositoryId, status, prompt: "p", callbackToken: "c", createdAt: NOW };
  return await convex.inside(async (ctx) => {
    const jobId = await ctx.db.insert("jobs", { ...row, ...fields });
    const document = { jobId, repositoryId, slug: "s", title: "t", kind: "toc" as const };
    await ctx.db.insert("docs", { ...document, chapterIndex: 0, content: "x", createdAt: NOW });
    await ctx.db.insert("jobLogs", { jobId, ts: NOW, seq: NOW, level: "info", msg: "theirs" });
    return jobId;
  });
}

const rowOf = async (jobId: Id<"jobs">) => await convex.row(jobId);

/** Every call about one job, with arguments that are good but for the token. */
const calls = async (jobId: string): Promise<Record<string, Record<string, unknown>>> => {
  const token = { workerKey: WORKER_KEY, jobId, leaseToken: newToken(), attempt: 0 };
  const { document, digest } = await handIn(0);
  const operator = { operatorKey: OPERATOR_KEY, jobId };
  return {
    "queue:heartbeat": { ...token, beat: 1 },
    "queue:stageDocs": { ...token, docs: [document] },
    "queue:uploadUrl": { ...token, sha256: "0".repeat(64) },
    "queue:complete": { ...token, digests: [digest], message: "m" },
    "queue:fail": { ...token, class: "crash", message: "m" },
    "queue:release": token,
    "queue:cloneToken": token,
    "queue:appendLogs": { ...token, lines: [{ n: 0, at: NOW, level: "info", msg: "m" }] },
    "jobs:get": operator,
    "jobs:logs": operator,
    "docs:list": operator,
    "jobs:cancel": operator,
    "jobs:retry": operator,
  };
};

/** Every call about the queue. */
const others: Record<string, Record<string, unknown>> = {
  "queue:claim": {
    workerKey: WORKER_KEY,
    workerId: "w",
    instance: "w-1",
    leaseToken: "t".repeat(20),
    leaseMs: 5 * MINUTE,
  },
  "queue:report": {
    workerKey: WORKER_KEY,
    workerId: "w",
    instance: "w-1",
    version: "1",
    slots: 1,
    busy: 0,
    state: "s",
  },
  "queue:cancellations": { workerKey: WORKER_KEY, instance: "worker-1" },
  "queue:workAvailable": { workerKey: WORKER_KEY },
  "queue:about": { workerKey: WORKER_KEY },
  "queue:pulse": { workerKey: WORKER_KEY },
  "jobs:list": { operatorKey: OPERATOR_KEY },
  "jobs:enqueue": {
    operatorKey: OPERATOR_KEY,
    prompt: "p",
    cloneUrl: "https://example.org/a.git",
    dedupeKey: "k",
  },
  "workers:list": { operatorKey: OPERATOR_KEY },
  "upkeep:beat": {},
  "upkeep:sweep": {},
  "upkeep:retention": {},
};
const QUERIES = /:(get|list|logs|cancellations|workAvailable|pulse|about)$/;

/** The answer, or the `code` of the refusal; anything else is an error of the function. */
async function call(name: string, args: Record<string, unknown>) {
  const kind = QUERIES.test(name) ? "query" : "mutation";
  return await convex[kind](name, args).catch((error: { data?: { code?: string } }) => {
    if (error.data?.code === undefined) throw error;
    return error.data;
  });
}

test("every function there is meets such rows here", async () => {
  const registered: string[] = [];
  for (const [path, load] of Object.entries(functionModules)) {
    const module = path.replace(/^.*\/|\.ts$/g, "");
    const exports = Object.entries((await load()) as Record<string, { isPublic?: boolean }>);
    for (const [name, exported] of exports) {
      if (exported?.isPublic) registered.push(`${module}:${name}`);
    }
  }
  const met = [...Object.keys(await calls("")), ...Object.keys(others)];
  expect(met.filter((name) => !name.startsWith("upkeep:")).sort()).toEqual(registered.sort());
});

describe.each(rows)("a $status row, $shape,", ({ status, fields }) => {
  test("answers every call, and changes only where an operator says so", async () => {
    const jobId = await insert(status, fields);
    const row = await rowOf(jobId);
    for (const [name, args] of Object.entries(await calls(jobId))) {
      if (name === "jobs:cancel") break;
      const answer = await call(name, args);
      if (name.startsWith("queue:")) expect(answer, name).toMatchObject({ code: "lease_lost" });
    }
    expect(await rowOf(jobId)).toEqual(row);
    const { "jobs:get": get, "jobs:logs": logs, "docs:list": list } = await calls(jobId);
    const seen = await call("jobs:get", get ?? {});
    expect(seen).toMatchObject({ id: jobId, status, repository: "ada/engine", ref: "trunk" });
    expect(JSON.stringify(seen)).not.toContain("callbackToken");
    expect((await call("jobs:logs", logs ?? {})).lines).toHaveLength(1);
    expect((await call("docs:list", list ?? {})).docs).toHaveLength(1);
  });

  test("is claimed when it waits, else left alone, also by expiry, sweep and retention", async () => {
    const jobId = await insert(status, fields);
    const row = await rowOf(jobId);
    const answers = new Map<string, Awaited<ReturnType<typeof call>>>();
    for (const [name, args] of Object.entries(others)) answers.set(name, await call(name, args));
    const { job } = answers.get("queue:claim");
    const isTaken = status === "pending" && !fields.cancelRequested;
    expect(job?.id ?? null).toBe(isTaken ? jobId : null);
    const isTwin = fields.dedupeKey === "k" && [...IN_FLIGHT, "pending"].includes(status);
    expect(answers.get("jobs:enqueue").duplicate).toBe(isTwin || undefined);
    await convex.pass(HOUR);
    await convex.cron("retention");
    await convex.settle();
    if (status !== "pending") expect(await rowOf(jobId)).toEqual(row);
    else expect((await rowOf(jobId)).status).toBe(isTaken ? "pending" : "canceled");
  });

  test("is cancelled unless it has ended, and tried again unless it is completed", async () => {
    const jobId = await insert(status, fields);
    const { "jobs:cancel": cancel = {}, "jobs:retry": retry = {} } = await calls(jobId);
    const isOpen = [...IN_FLIGHT, "pending"].includes(status);
    if (isOpen && status !== "pending") {
      expect(await call("jobs:retry", retry)).toMatchObject({ code: "invalid" });
    }
    const canceled = await call("jobs:cancel", cancel);
    expect(canceled).toMatchObject(isOpen ? { status: "canceled" } : { already: status });
    if (status === "completed") {
      expect(await call("jobs:retry", retry)).toMatchObject({ code: "invalid" });
      return;
    }
    expect(await call("jobs:retry", retry)).toMatchObject({ status: "pending" });
    const { answer, token } = await convex.claim();
    expect(answer.job).toMatchObject({ id: jobId, attempt: 1, attempts: 0 });
    await convex.work("heartbeat", { ...token, beat: 1 });
    const { document, digest } = await handIn(0);
    await convex.work("stageDocs", { ...token, docs: [document] });
    const result = { ...token, digests: [digest], message: "m" };
    expect(await convex.work("complete", result)).toMatchObject({ status: "completed" });
    expect(await convex.docs(jobId)).toHaveLength(2);
  });
});
