/** Living with the rows and the habits of the earlier Node worker's front ends. */

import type { WithoutSystemFields } from "convex/server";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Doc, Id } from "../../convex/server";
import {
  DAY,
  type Deployment,
  deploy,
  HOUR,
  handIn,
  MINUTE,
  NOW,
  refusal,
  type Token,
} from "./deployment";

type NewJob = WithoutSystemFields<Doc<"jobs">>;

let convex: Deployment;
let repositoryId: Id<"repositories">;
let userId: Id<"users">;
beforeEach(async () => {
  convex = await deploy();
  await convex.inside(async (ctx) => {
    const user = { githubId: "1", username: "ada", githubAccessToken: "obf_x", createdAt: NOW };
    userId = await ctx.db.insert("users", user);
    repositoryId = await ctx.db.insert("repositories", {
      userId,
      githubRepoId: "2",
      name: "engine",
      fullName: "ada/engine",
      defaultBranch: "trunk",
      languages: { primary: "C", all: [{ name: "C", percentage: 100, bytes: 9 }] },
      stats: { stars: 1, forks: 0, issues: 0 },
    });
  });
});
afterEach(() => vi.useRealTimers());

/** A row as a front end inserts it. */
async function insert(fields: Partial<NewJob> = {}): Promise<string> {
  return await convex.inside(
    async (ctx) =>
      await ctx.db.insert("jobs", {
        userId,
        repositoryId,
        status: "pending",
        prompt: "Generate documentation",
        callbackToken: "callback",
        createdAt: NOW,
        ...fields,
      }),
  );
}

async function patch(jobId: string, fields: Partial<Doc<"jobs">>): Promise<void> {
  await convex.inside(async (ctx) => await ctx.db.patch(jobId as Id<"jobs">, fields));
}

async function running(): Promise<Token> {
  await insert();
  const { token } = await convex.claim();
  await convex.work("heartbeat", { ...token, beat: 1, status: "analyzing" });
  return token;
}

const canceled = { code: "lease_lost", reason: "canceled" };

describe("its rows", () => {
  test("are valid, whatever it wrote into them", async () => {
    const statuses = ["running", "failed", "canceled", "gathering", "completed", "dead"] as const;
    for (const status of statuses) {
      await insert({
        status,
        runAt: NOW,
        attempts: 1,
        maxAttempts: 5,
        lockedBy: "worker-1",
        leaseUntil: NOW - DAY,
        dedupeKey: "k",
        lastError: "e",
        error: "e",
        updatedAt: NOW,
        completedAt: NOW,
        progress: "Étape 1/6",
        currentStep: 1,
        totalSteps: 6,
        docsCount: 3,
        cancelRequested: false,
        runId: "run_1",
        result: status === "failed" ? null : { success: true, message: "m", data: "3 documents" },
        regenerationStats: { inserted: 1, updated: 0, skipped: 0, rejected: 0, deleted: 0 },
      });
    }
    await insert({ result: "text" });
    expect(await convex.jobs()).toHaveLength(7);
  });

  test("are claimed with the repository's name and branch", async () => {
    const jobId = await insert();
    const { answer } = await convex.claim();
    expect(answer.job).toMatchObject({
      id: jobId,
      repository: "ada/engine",
      cloneUrl: "https://github.com/ada/engine.git",
      ref: "trunk",
      attempt: 1,
      attempts: 0,
      maxAttempts: 5,
      priority: 0,
    });
  });

  test("count as priority 0, and as due since they exist where they have no time", async () => {
    const urgent = await convex.enqueue({ priority: 1 });
    const slow = await convex.enqueue({ priority: -1, runAt: 0 });
    const old = await insert({ createdAt: NOW - HOUR });
    const older = await insert({ runAt: NOW - 2 * HOUR });
    const ours = await convex.enqueue();
    await insert({ runAt: NOW + 1 });
    const claimed: string[] = [];
    for (let i = 0; i < 5; i += 1) claimed.push((await convex.claim()).answer.job.id);
    expect(claimed).toEqual([urgent, older, old, ours, slow]);
    expect((await convex.claim()).answer).toMatchObject({ job: null, nextRunAt: NOW + 1 });
  });

  test("that its own worker holds are neither claimed nor swept", async () => {
    const ids: string[] = [];
    for (const status of ["claimed", "running", "gathering"] as const) {
      ids.push(await insert({ status, lockedBy: "worker-1", leaseUntil: NOW - DAY }));
    }
    expect((await convex.claim()).answer.job).toBeNull();
    await convex.cron("sweep");
    const statuses = await Promise.all(ids.map(async (id) => (await convex.row(id)).status));
    expect(statuses).toEqual(["claimed", "running", "gathering"]);
  });

  test("that name a repository that is gone die with words, and the next is taken", async () => {
    const orphan = await insert({ runAt: 0 });
    await convex.inside(async (ctx) => await ctx.db.delete(repositoryId));
    const next = await convex.enqueue();
    expect((await convex.claim()).answer).toEqual({ job: null, nextRunAt: NOW, now: NOW });
    expect((await convex.claim()).answer.job.id).toBe(next);
    const job = await convex.job(orphan);
    expect(job).toMatchObject({ status: "dead", errorClass: "invalid_job", completedAt: NOW });
    expect(job.error).toContain("deleted");
  });

  test("without a repository are put away one in each claim", async () => {
    for (let i = 0; i < 3; i += 1) await insert();
    await convex.inside(async (ctx) => await ctx.db.delete(repositoryId));
    for (let i = 0; i < 3; i += 1) {
      expect((await convex.claim()).answer).toEqual({ job: null, nextRunAt: NOW, now: NOW });
    }
    expect((await convex.claim()).answer).toEqual({ job: null, nextRunAt: null, now: NOW });
  });

  test.each(["engine", "ada/engine/..", "ada/..;rm", "-x/y z"])(
    "that name a repository %j are not cloned",
    async (fullName) => {
      await convex.inside(async (ctx) => await ctx.db.patch(repositoryId, { fullName }));
      const jobId = await insert();
      expect((await convex.claim()).answer.job).toBeNull();
      expect(await convex.job(jobId)).toMatchObject({ status: "dead", errorClass: "invalid_job" });
    },
  );

  test("that it asked to cancel before anybody claimed them are canceled", async () => {
    const jobId = await insert({ cancelRequested: true });
    expect((await convex.claim()).answer.job).toBeNull();
    expect(await convex.job(jobId)).toMatchObject({ status: "canceled" });
  });
});

describe("a job that ended and that it puts back", () => {
  test("has a week again until it is given up, and returns as quickly as a new one", async () => {
    const token = await running();
    await convex.work("release", token);
    for (const end of ["complete", "release"] as const) {
      convex.skip(7 * DAY);
      const { token } = await convex.claim();
      const { document, digest } = await handIn(0);
      await convex.work("stageDocs", { ...token, docs: [document] });
      const result = { ...token, digests: [digest], message: "m" };
      await convex.work(end, end === "complete" ? result : token);
      expect((await convex.row(token.jobId)).status).toMatch(/completed|dead/);
      await patch(token.jobId, { status: "pending", runAt: Date.now() });
      const again = await convex.claim();
      const released = await convex.work("release", again.token);
      expect(released).toMatchObject({ status: "pending", runAt: Date.now() });
      expect((await convex.row(token.jobId)).returns).toBe(1);
    }
  });
});

describe("a cancellation by it", () => {
  test.each([
    { status: "canceled" as const },
    { status: "failed" as const },
    { status: "running" as const },
    { status: "completed" as const },
    { status: "pending" as const },
    { cancelRequested: true },
  ])("is noticed at the next call: %j", async (fields) => {
    const token = await running();
    await patch(token.jobId, fields);
    expect(await refusal(convex.work("heartbeat", { ...token, beat: 2 }))).toEqual(canceled);
    const complete = { ...token, digests: ["0".repeat(64)], message: "m" };
    expect(await refusal(convex.work("complete", complete))).toEqual(canceled);
  });

  test("stands when the lease ends, and refuses what comes later", async () => {
    const examples: [Partial<Doc<"jobs">>, string][] = [
      [{ status: "failed" }, "failed"],
      [{ cancelRequested: true }, "canceled"],
      [{ status: "pending", runAt: NOW + DAY }, "pending"],
    ];
    for (const [fields, becomes] of examples) {
      const token = await running();
      await patch(token.jobId, fields);
      await convex.pass(5 * MINUTE);
      const row = await convex.row(token.jobId);
      expect(row.status).toBe(becomes);
      const { expiresAt, leaseUntil, lockedBy } = row;
      expect({ expiresAt, leaseUntil, lockedBy }).toEqual({});
      expect(await refusal(convex.work("heartbeat", { ...token, beat: 2 }))).toEqual(canceled);
      const complete = { ...token, digests: ["0".repeat(64)], message: "m" };
      expect(await refusal(convex.work("complete", complete))).toEqual(canceled);
    }
  });

  test("after the lease refuses the result that comes later", async () => {
    const token = await running();
    await convex.pass(5 * MINUTE);
    await patch(token.jobId, { status: "canceled" });
    const complete = { ...token, digests: ["0".repeat(64)], message: "m" };
    expect(await refusal(convex.work("complete", complete))).toEqual(canceled);
  });
});
