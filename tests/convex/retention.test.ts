/** What is deleted when its time is over, and what is not ours to delete. */

import type { WithoutSystemFields } from "convex/server";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { sha256Hex } from "../../convex/digests";
import type { Doc, Id } from "../../convex/server";
import {
  DAY,
  type Deployment,
  deploy,
  HOUR,
  handIn,
  MINUTE,
  NOW,
  OPERATOR_KEY,
  type Token,
} from "./deployment";

let convex: Deployment;
beforeEach(async () => {
  convex = await deploy();
});
afterEach(() => {
  for (const name of Object.keys(process.env)) {
    if (name.startsWith("FONDATION_KEEP_")) delete process.env[name];
  }
  vi.useRealTimers();
});

const KIB = 1024;
const YEAR = 365 * DAY;

type Table =
  | "jobs"
  | "docs"
  | "jobLogs"
  | "logSums"
  | "attempts"
  | "stagedDocs"
  | "uploads"
  | "cancellations"
  | "workers";

const rowsOf = async <Name extends Table>(table: Name): Promise<Doc<Name>[]> =>
  await convex.inside(async (ctx) => (await ctx.db.query(table).collect()) as Doc<Name>[]);

const filesLeft = async () =>
  await convex.inside(async (ctx) =>
    (await ctx.db.system.query("_storage").collect()).map(({ _id }) => _id),
  );

const store = async (text: string): Promise<Id<"_storage">> =>
  await convex.engine.run(async (ctx) => await ctx.storage.store(new Blob([text])));

/** Let `milliseconds` pass as in an outage, then retention do all that it has to. */
async function later(milliseconds: number): Promise<void> {
  convex.skip(milliseconds);
  await convex.cron("retention");
  await convex.settle();
}

async function running(job: Record<string, unknown> = {}): Promise<Token> {
  await convex.enqueue(job);
  return await again();
}

async function again(): Promise<Token> {
  const { token } = await convex.claim();
  await convex.work("heartbeat", { ...token, beat: 1 });
  return token;
}

/** A document whose text was announced and uploaded. */
async function uploaded(token: Token, index: number, text: string) {
  const sha256 = await sha256Hex(text);
  await convex.work("uploadUrl", { ...token, sha256 });
  return await handIn(index, { storageId: await store(text), fileSha256: sha256 });
}

const stage = async (token: Token, handed: Awaited<ReturnType<typeof handIn>>[]) =>
  await convex.work("stageDocs", { ...token, docs: handed.map(({ document }) => document) });

/** Hand in a document and a file. */
async function complete(token: Token, text = token.jobId): Promise<void> {
  const handed = [await handIn(0), await uploaded(token, 1, text)];
  await stage(token, handed);
  const digests = handed.map(({ digest }) => digest);
  await convex.work("complete", { ...token, digests, message: "done" });
  await convex.settle();
}

const log = async (token: Token, n = 0) =>
  await convex.work("appendLogs", {
    ...token,
    lines: [{ n, at: NOW, level: "info", msg: "line" }],
  });

async function repository(): Promise<Id<"repositories">> {
  return await convex.inside(async (ctx) => {
    const user = { githubId: "1", username: "ada", createdAt: NOW };
    const userId = await ctx.db.insert("users", user);
    const names = { githubRepoId: "2", name: "engine", fullName: "ada/engine" };
    return await ctx.db.insert("repositories", { userId, ...names, defaultBranch: "main" });
  });
}

/** A row as the earlier Node worker left it. */
async function foreignJob(fields: Partial<WithoutSystemFields<Doc<"jobs">>> = {}) {
  const row = { status: "completed" as const, prompt: "p", callbackToken: "c", createdAt: NOW };
  const ended = { attempts: 1, completedAt: NOW, updatedAt: NOW, ...fields };
  return await convex.inside(async (ctx) => await ctx.db.insert("jobs", { ...row, ...ended }));
}

async function foreignRows(jobId: Id<"jobs">, storageId?: Id<"_storage">): Promise<void> {
  await convex.inside(async (ctx) => {
    const document = { jobId, slug: "own", title: "t", kind: "toc" as const, chapterIndex: 0 };
    await ctx.db.insert("docs", { ...document, content: "x", createdAt: NOW, storageId });
    const line = { jobId, ts: NOW, seq: NOW, level: "info" as const, msg: "theirs" };
    await ctx.db.insert("jobLogs", line);
  });
}

test("after a year nothing of ours is left, and everything else is as it was", async () => {
  const foreign = [
    await foreignJob(),
    await foreignJob({ status: "failed", dedupeKey: "k" }),
    await foreignJob({ status: "dead", leaseUntil: NOW, lockedBy: "w" }),
    await foreignJob({ status: "canceled", cancelRequested: true }),
    await foreignJob({ status: "running" }),
    await foreignJob({ status: "pending", runAt: NOW + 2 * YEAR }),
  ];
  for (const jobId of foreign) await foreignRows(jobId, await store("the application's"));
  await store("of no row");
  const before = {
    jobs: await rowsOf("jobs"),
    docs: await rowsOf("docs"),
    jobLogs: await rowsOf("jobLogs"),
    files: await filesLeft(),
  };

  const completed = await running();
  await log(completed);
  await complete(completed);
  const canceled = await running();
  await stage(canceled, [await handIn(0), await uploaded(canceled, 1, "staged")]);
  await uploaded(canceled, 2, "never staged");
  await log(canceled);
  await convex.mutation("jobs:cancel", { operatorKey: OPERATOR_KEY, jobId: canceled.jobId });
  const dead = await running({ maxAttempts: 1 });
  await stage(dead, [await handIn(0)]);
  await convex.pass(5 * MINUTE);
  await convex.work("report", {
    ...{ workerId: "w", instance: "w-1", version: "1", slots: 1, busy: 0, state: "s" },
  });
  // Somebody's file of the same time.
  const files = [...before.files, await store("another file of that time")];

  await later(HOUR);
  await later(YEAR);
  // What hung on a job that is gone had an owner until then.
  await later(HOUR);
  expect(await rowsOf("jobs")).toEqual(before.jobs);
  expect(await rowsOf("docs")).toEqual(before.docs);
  expect(await rowsOf("jobLogs")).toEqual(before.jobLogs);
  expect(await filesLeft()).toEqual(files);
  const ours = [
    "logSums",
    "attempts",
    "stagedDocs",
    "uploads",
    "cancellations",
    "workers",
  ] as const;
  for (const table of ours) expect(await rowsOf(table), table).toEqual([]);
});

test("what an application wrote beside a job of ours outlives it", async () => {
  const token = await running();
  await foreignRows(token.jobId as Id<"jobs">);
  await log(token);
  await complete(token);
  await later(HOUR);
  await later(YEAR);
  expect(await rowsOf("jobs")).toEqual([]);
  expect(await rowsOf("docs")).toMatchObject([{ slug: "own" }]);
  expect(await rowsOf("jobLogs")).toMatchObject([{ msg: "theirs" }]);
});

describe("time is over", () => {
  test.each([
    ["logs", 7 * DAY, "LOGS_DAYS", "2", 2 * DAY],
    ["cancellations", HOUR, "CANCELLATIONS_HOURS", "0.5", HOUR / 2],
    ["workers", 7 * DAY, "WORKERS_DAYS", "1", DAY],
    ["staged", DAY, "UNOWNED_HOURS", "1", HOUR],
    ["uploads", DAY, "UNOWNED_HOURS", "1", HOUR],
    ["jobs", 90 * DAY, "JOBS_DAYS", "3", 3 * DAY],
  ] as const)("for %s after %i ms, or as %s = %s says", async (what, time, name, value, other) => {
    const tables = {
      logs: "jobLogs",
      cancellations: "cancellations",
      workers: "workers",
      staged: "stagedDocs",
      uploads: "uploads",
      jobs: "jobs",
    } as const;
    const variable = `FONDATION_KEEP_${name}`;
    for (const [configured, kept] of [
      [undefined, time],
      ["0", time],
      ["soon", time],
      [value, other],
    ] as const) {
      convex = await deploy();
      if (configured !== undefined) process.env[variable] = configured;
      const token = await running();
      await log(token);
      await stage(token, [await uploaded(token, 0, "text")]);
      await convex.work("report", {
        ...{ workerId: "w", instance: "w-1", version: "1", slots: 1, busy: 0, state: "s" },
      });
      await convex.mutation("jobs:cancel", { operatorKey: OPERATOR_KEY, jobId: token.jobId });
      const table = tables[what];
      await later(0);
      await later(kept - MINUTE);
      expect(await rowsOf(table), `${configured}`).not.toEqual([]);
      await later(2 * MINUTE);
      expect(await rowsOf(table), `${configured}`).toEqual([]);
    }
  });

  test("for lines no later than for their job", async () => {
    process.env.FONDATION_KEEP_JOBS_DAYS = "1";
    const token = await running();
    await log(token);
    await complete(token);
    await later(HOUR);
    await later(DAY);
    for (const table of ["jobs", "jobLogs", "logSums"] as const) {
      expect(await rowsOf(table), table).toEqual([]);
    }
  });

  test("for a worker only while it is not seen", async () => {
    const report = { workerId: "w", version: "1", slots: 1, busy: 0, state: "s" };
    for (const instance of ["a", "b"]) await convex.work("report", { ...report, instance });
    convex.skip(6 * DAY);
    await convex.work("report", { ...report, instance: "b" });
    await later(2 * DAY);
    expect(await rowsOf("workers")).toMatchObject([{ instance: "b" }]);
  });
});

test("a worker that is not seen any more keeps what it holds as long as its lease", async () => {
  const token = await running();
  await convex.inside(async (ctx) => {
    const expiresAt = NOW + 30 * DAY;
    await ctx.db.patch(token.jobId as Id<"jobs">, { leaseUntil: expiresAt, expiresAt });
  });
  await convex.work("report", {
    ...{ workerId: "w", instance: "w-1", version: "1", slots: 1, busy: 1, state: "s" },
  });
  await later(8 * DAY);
  expect(await rowsOf("workers")).toEqual([]);
  await complete(token);
  expect(await convex.job(token.jobId)).toMatchObject({ status: "completed" });
});

describe("an attempt that can still hand in", () => {
  test("keeps what it staged and uploaded, its lease over or not", async () => {
    const expired = await running({ maxAttempts: 1 });
    await convex.pass(5 * MINUTE);
    const held = await running({ cloneUrl: "https://example.org/b.git" });
    const handed = new Map<Token, Awaited<ReturnType<typeof handIn>>>();
    for (const token of [expired, held]) {
      const document = await uploaded(token, 0, token.jobId);
      await stage(token, [document]);
      handed.set(token, document);
    }
    await later(3 * DAY);
    expect(await rowsOf("stagedDocs")).toHaveLength(2);
    expect(await rowsOf("uploads")).toHaveLength(2);
    for (const [token, { digest }] of handed) {
      const result = { ...token, digests: [digest], message: "late" };
      expect(await convex.work("complete", result)).toMatchObject({ status: "completed" });
    }
  });

  test("keeps it also where it was thought to have none", async () => {
    const token = await running();
    await uploaded(token, 0, "text");
    const { jobId, attempt } = token;
    await convex.mutation("upkeep:dropUploads", { jobId, attempt, after: 0 });
    expect(await rowsOf("uploads")).toHaveLength(1);
    expect(await filesLeft()).toHaveLength(1);
  });

  test("loses it when somebody else has claimed", async () => {
    const token = await running();
    await stage(token, [await uploaded(token, 0, "text")]);
    await convex.pass(5 * MINUTE);
    await again();
    await later(2 * DAY);
    expect(await rowsOf("stagedDocs")).toEqual([]);
    expect(await rowsOf("uploads")).toEqual([]);
    expect(await filesLeft()).toEqual([]);
  });
});

describe("a file", () => {
  test("that a document names stays, a second copy of it goes", async () => {
    const token = await running();
    const copy = (await uploaded(token, 1, token.jobId)).document;
    await complete(token);
    expect(await filesLeft()).toHaveLength(2);
    await later(2 * DAY);
    expect(await filesLeft()).toHaveLength(1);
    expect(await filesLeft()).not.toContain((copy as { storageId?: string }).storageId);
    expect((await convex.docs(token.jobId))[1].url).toMatch(/^https:/);
    expect(await rowsOf("uploads")).toEqual([]);
  });

  test("that was uploaded again long after it was announced goes as well", async () => {
    const token = await running();
    await uploaded(token, 0, "text");
    convex.skip(3 * DAY);
    await uploaded(token, 0, "text");
    await convex.inside(async (ctx) => {
      await ctx.db.patch(token.jobId as Id<"jobs">, { leaseToken: undefined });
    });
    await later(DAY - MINUTE);
    expect(await filesLeft()).toHaveLength(2);
    await later(2 * MINUTE);
    expect(await filesLeft()).toEqual([]);
  });

  test("of another time is not looked at, though it is the same", async () => {
    const earlier = await store("text");
    convex.skip(HOUR);
    const token = await running();
    await uploaded(token, 0, "text");
    convex.skip(3 * HOUR);
    const after = await store("text");
    await convex.mutation("jobs:cancel", { operatorKey: OPERATOR_KEY, jobId: token.jobId });
    await later(2 * DAY);
    expect(await filesLeft()).toEqual([earlier, after]);
  });

  test("is found among very many of the application", async () => {
    const token = await running();
    for (let i = 0; i < 120; i += 1) await store(`theirs ${i}`);
    await uploaded(token, 0, "text");
    for (let i = 0; i < 120; i += 1) await store(`theirs too ${i}`);
    await convex.mutation("jobs:cancel", { operatorKey: OPERATOR_KEY, jobId: token.jobId });
    await later(2 * DAY);
    expect(await filesLeft()).toHaveLength(240);
  });
});

describe("an ended job", () => {
  test("goes with its documents and their files", async () => {
    const token = await running();
    await complete(token);
    await later(HOUR);
    await later(90 * DAY - HOUR);
    expect(await convex.job(token.jobId)).toMatchObject({ status: "completed" });
    await later(2 * HOUR);
    expect(await convex.job(token.jobId)).toBeNull();
    expect(await convex.docs(token.jobId)).toEqual([]);
    expect(await filesLeft()).toEqual([]);
  });

  test("stays as long as a repository has its documents", async () => {
    const repositoryId = await repository();
    const named = { repositoryId, cloneUrl: undefined };
    const [older, newer] = [await running(named), await running(named)];
    for (const token of [older, newer]) await complete(token);
    await later(HOUR);
    await later(YEAR);
    expect(await convex.job(older.jobId)).toBeNull();
    expect(await convex.job(newer.jobId)).toMatchObject({ status: "completed" });
    expect(await convex.docs(newer.jobId)).toHaveLength(2);
    await convex.inside(async (ctx) => await ctx.db.delete(repositoryId));
    await later(YEAR);
    expect(await rowsOf("jobs")).toEqual([]);
    expect(await rowsOf("docs")).toEqual([]);
  });

  test("that ended by a front end goes as well", async () => {
    for (const status of ["failed", "canceled"] as const) {
      const jobId = (await convex.enqueue()) as Id<"jobs">;
      await convex.inside(async (ctx) => await ctx.db.patch(jobId, { status }));
    }
    await later(HOUR);
    await later(91 * DAY);
    expect(await rowsOf("jobs")).toEqual([]);
  });

  test("that was retried and ended again has its time again", async () => {
    const token = await running({ maxAttempts: 1 });
    await convex.work("fail", { ...token, class: "timeout", message: "slow" });
    await later(HOUR);
    convex.skip(80 * DAY);
    await convex.mutation("jobs:retry", { operatorKey: OPERATOR_KEY, jobId: token.jobId });
    await later(20 * DAY);
    expect(await convex.job(token.jobId)).toMatchObject({ status: "pending" });
    await complete(await again());
    await later(89 * DAY);
    expect(await convex.job(token.jobId)).toMatchObject({ status: "completed" });
    await later(2 * DAY);
    expect(await convex.job(token.jobId)).toBeNull();
  });

  test("is none while it waits or runs", async () => {
    await running();
    await convex.enqueue({ runAt: NOW + YEAR });
    await later(HOUR);
    await later(YEAR);
    expect((await rowsOf("jobs")).map(({ status }) => status)).toEqual(["claimed", "pending"]);
  });
});

describe("much of it", () => {
  test("goes in many calls, each within its limits", async () => {
    const jobId = (await convex.enqueue()) as Id<"jobs">;
    for (let part = 0; part < 6; part += 1) {
      await convex.inside(async (ctx) => {
        for (let i = 0; i < 50; i += 1) {
          const token = `t-${part}-${i}`;
          const claim = { token, jobId, attempt: 1, instance: "w", startedAt: NOW };
          await ctx.db.insert("attempts", claim);
          const row = { jobId, attempt: 1, slug: "s", title: "t", kind: "toc" as const };
          const document = { ...row, chapterIndex: 0, content: "x".repeat(64 * KIB) };
          await ctx.db.insert("docs", { ...document, createdAt: NOW });
          const staged = { ...document, index: 50 * part + i, digest: "d", stagedAt: NOW };
          await ctx.db.insert("stagedDocs", staged);
          const line = { jobId, ts: NOW, seq: 1e6 + 50 * part + i, level: "info" as const };
          await ctx.db.insert("jobLogs", { ...line, msg: "x".repeat(4 * KIB), loggedAt: NOW });
        }
      });
    }
    await convex.mutation("jobs:cancel", { operatorKey: OPERATOR_KEY, jobId });
    await later(HOUR);
    await later(91 * DAY);
    for (const table of ["jobs", "docs", "attempts", "stagedDocs", "jobLogs"] as const) {
      expect(await rowsOf(table), table).toEqual([]);
    }
  });

  test("goes where the jobs of a front end are very large", async () => {
    const prompt = "x".repeat(900 * KIB);
    for (let i = 0; i < 30; i += 1) {
      const jobId = await foreignJob({ status: "canceled", prompt, attempt: 1 });
      await convex.inside(async (ctx) => {
        const row = { jobId, attempt: 1, index: 0, digest: "d", slug: "s", title: "t" };
        const document = { kind: "toc" as const, chapterIndex: 0, content: "x", stagedAt: NOW };
        await ctx.db.insert("stagedDocs", { ...row, ...document });
      });
    }
    await later(2 * DAY);
    expect(await rowsOf("stagedDocs")).toEqual([]);
    await later(91 * DAY);
    expect(await rowsOf("jobs")).toEqual([]);
  });
});
