/** What an operator may enqueue, and what operators read. */

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { unfinishedTwin } from "../../convex/enqueuing";
import type { Doc, Id } from "../../convex/server";
import {
  DAY,
  type Deployment,
  deploy,
  MINUTE,
  NOW,
  newToken,
  OPERATOR_KEY,
  refusal,
  SECOND,
} from "./deployment";

let convex: Deployment;
beforeEach(async () => {
  convex = await deploy();
});
afterEach(() => {
  delete process.env.FONDATION_MIN_LEASE_MS;
  vi.useRealTimers();
});

describe("a new job", () => {
  test("has the defaults, and shows no token once it is claimed", async () => {
    const jobId = await convex.enqueue();
    expect(await convex.job(jobId)).toEqual({
      id: jobId,
      status: "pending",
      repository: "https://example.org/a.git",
      cloneUrl: "https://example.org/a.git",
      prompt: "Describe it.",
      priority: 0,
      runAt: NOW,
      attempt: 0,
      attempts: 0,
      maxAttempts: 5,
      createdAt: NOW,
      updatedAt: NOW,
    });
    const { token } = await convex.claim();
    expect(JSON.stringify(await convex.job(jobId))).not.toContain(token.leaseToken);
    expect(JSON.stringify(await convex.jobs())).not.toContain(token.leaseToken);
  });

  test("never has the rank -0, which sorts before 0", async () => {
    for (const priority of [0, -0]) {
      const { rank } = await convex.row(await convex.enqueue({ priority }));
      expect(Object.is(rank, 0)).toBe(true);
    }
  });

  test.each([
    ["cloneUrl", "https://github.com/ada/engine"],
    ["cloneUrl", "https://git.example.org:443/a/b.git?x=y"],
    ["cloneUrl", "file:///srv/git/a.git"],
    ["prompt", "é".repeat(100 * 1024)],
    ["ref", "feature/x"],
    ["ref", "v1.0@2"],
    // biome-ignore lint/suspicious/noTemplateCurlyInString: git allows a branch of this name
    ["ref", "main;touch${IFS}x"],
    ["commit", "0123456789abcdef0123456789abcdef01234567"],
    ["commit", "0123456789abcdef".repeat(4)],
    ["subdirectory", "src/..app/a..b/"],
    ["subdirectory", ".github"],
    ["priority", -10],
    ["runAt", NOW + 365 * DAY],
    ["runAt", NOW + 0.5],
    ["timeoutMs", 6 * 60 * MINUTE],
    ["maxAttempts", 20],
    ["dedupeKey", "é".repeat(128)],
  ])("may have the %s %j", async (field, value) => {
    await convex.enqueue({ [field]: value });
  });

  test.each([
    ["prompt", ""],
    ["prompt", `${"é".repeat(100 * 1024)}x`],
    ["cloneUrl", ""],
    ["cloneUrl", "http://example.org/a.git"],
    ["cloneUrl", "ssh://git@example.org/a.git"],
    ["cloneUrl", "https://user@example.org/a.git"],
    ["cloneUrl", "https://user:secret@example.org/a.git"],
    ["cloneUrl", "https://@example.org/a.git"],
    ["cloneUrl", "https://example.org:8443/a.git"],
    ["cloneUrl", "https://example.org\\@evil.org/a.git"],
    ["cloneUrl", "https://example.org"],
    ["cloneUrl", "https:///a.git"],
    ["cloneUrl", "https://example.org/a\n.git"],
    ["cloneUrl", "https://example.org/a%0Ab"],
    ["cloneUrl", "https://example.org/a%7fb"],
    ["cloneUrl", "https://example%2eorg/a"],
    ["cloneUrl", 'https://example"org/a'],
    ["cloneUrl", "https://example.org/a b"],
    ["cloneUrl", " https://example.org/a"],
    ["cloneUrl", "--upload-pack=touch"],
    ["cloneUrl", "https://[example/a"],
    ["cloneUrl", "file://host/a"],
    ["cloneUrl", "file:///srv/git/a b"],
    ["cloneUrl", `https://example.org/${"a".repeat(2048)}`],
    ["ref", ""],
    ["ref", "a\u0000b"],
    ["ref", "a".repeat(257)],
    ["ref", "@"],
    ["ref", "-b"],
    ["ref", "/a"],
    ["ref", "a/"],
    ["ref", "a//b"],
    ["ref", "a..b"],
    ["ref", "a@{1}"],
    ["ref", ".a"],
    ["ref", "a/.b"],
    ["ref", "a."],
    ["ref", "a.lock"],
    ["ref", "a.lock/b"],
    ["ref", "a b"],
    ["ref", "a~1"],
    ["ref", "a^"],
    ["ref", "a:b"],
    ["ref", "a?"],
    ["ref", "a*"],
    ["ref", "a[b"],
    ["ref", "a\\b"],
    ["commit", "HEAD"],
    ["commit", "abc123"],
    ["commit", "0123456789ABCDEF0123456789abcdef01234567"],
    ["commit", "0123456789abcdef0123456789abcdef012345678"],
    ["subdirectory", ""],
    ["subdirectory", "."],
    ["subdirectory", "src//app"],
    ["subdirectory", "src/./app"],
    ["subdirectory", ".git/hooks"],
    ["subdirectory", "/"],
    ["subdirectory", "/etc"],
    ["subdirectory", ".."],
    ["subdirectory", "src/../.."],
    ["subdirectory", "src\\..\\.."],
    ["priority", 11],
    ["priority", -11],
    ["priority", 0.5],
    ["priority", Number.NaN],
    ["runAt", NOW + 365 * DAY + 1],
    ["runAt", -1],
    ["runAt", Number.POSITIVE_INFINITY],
    ["maxAttempts", 0],
    ["maxAttempts", 21],
    ["model", ""],
    ["timeoutMs", MINUTE - 1],
    ["timeoutMs", 6 * 60 * MINUTE + 1],
    ["userId", "nobody"],
    ["dedupeKey", ""],
    ["dedupeKey", `${"é".repeat(128)}x`],
  ])("may not have the %s %j", async (field, value) => {
    const refused = await refusal(convex.enqueue({ [field]: value }));
    expect(refused).toMatchObject({ code: "invalid", field, message: expect.any(String) });
    expect(await convex.jobs()).toEqual([]);
  });

  test("names a repository by its row or by its URL, not both and not neither", async () => {
    const invalid = { code: "invalid", field: "repositoryId" };
    expect(await refusal(convex.enqueue({ cloneUrl: undefined }))).toMatchObject(invalid);
    expect(await refusal(convex.enqueue({ repositoryId: "x" }))).toMatchObject(invalid);
    const unknown = { repositoryId: "x", cloneUrl: undefined };
    expect(await refusal(convex.enqueue(unknown))).toMatchObject(invalid);
  });

  test("does not name a repository that cannot be cloned", async () => {
    const repositoryId = await convex.inside(async (ctx) => {
      const user = { githubId: "1", username: "ada", createdAt: NOW };
      const userId = await ctx.db.insert("users", user);
      const names = { githubRepoId: "2", name: "engine", fullName: "engine" };
      return await ctx.db.insert("repositories", { userId, ...names, defaultBranch: "main" });
    });
    const invalid = { code: "invalid", field: "repositoryId" };
    const call = convex.enqueue({ repositoryId, cloneUrl: undefined });
    expect(await refusal(call)).toMatchObject(invalid);
  });
});

describe("a job with the key of another", () => {
  const put = async (args = {}) => {
    const job = { operatorKey: OPERATOR_KEY, prompt: "p", cloneUrl: "https://example.org/a.git" };
    return await convex.mutation("jobs:enqueue", { ...job, dedupeKey: "k", ...args });
  };
  const patch = async (jobId: string, fields: Partial<Doc<"jobs">>) =>
    await convex.inside(async (ctx) => await ctx.db.patch(jobId as Id<"jobs">, fields));

  test("is that one until it has ended", async () => {
    const { jobId } = await put();
    const others = [await put({ dedupeKey: "another" }), await put({ dedupeKey: undefined })];
    for (const other of others) expect(other).not.toHaveProperty("duplicate");
    for (const status of [
      "pending",
      "claimed",
      "cloning",
      "analyzing",
      "gathering",
      "running",
    ] as const) {
      await patch(jobId, { status });
      expect(await put({ prompt: "another" })).toEqual({ jobId, duplicate: true, now: NOW });
    }
    for (const status of ["completed", "dead", "canceled", "failed"] as const) {
      await patch(jobId, { status });
      const next = await put();
      expect(next).toEqual({ jobId: expect.not.stringMatching(jobId), now: NOW });
      await patch(next.jobId, { status: "canceled" });
    }
    expect(await convex.jobs({ limit: 100 })).toHaveLength(7);
  });

  test("is none that is about to be cancelled", async () => {
    const { jobId } = await put();
    await patch(jobId, { cancelRequested: true });
    const next = await put();
    expect(next).not.toHaveProperty("duplicate");
    expect(await put()).toMatchObject({ jobId: next.jobId, duplicate: true });
  });

  test("has to be good all the same", async () => {
    await put();
    expect(await refusal(put({ prompt: "" }))).toMatchObject({ code: "invalid", field: "prompt" });
  });

  test("reads one job of each status, however many have ended", async () => {
    const { jobId } = await put();
    await convex.inside(async (ctx) => {
      const job = { prompt: "p", cloneUrl: "https://example.org/a", createdAt: NOW };
      for (let i = 0; i < 100; i += 1) {
        await ctx.db.insert("jobs", { ...job, dedupeKey: "k", status: "completed" });
      }
    });
    const read = await convex.inside(async (ctx) => {
      const twin = await unfinishedTwin(ctx, "k");
      expect(twin?._id).toBe(jobId);
      return (await ctx.meta.getTransactionMetrics()).documentsRead.used;
    });
    expect(read).toBe(1);
  });
});

describe("a claim out of bounds is refused:", () => {
  test.each([
    ["leaseToken", "short"],
    ["leaseToken", "x".repeat(129)],
    ["leaseToken", "with a blank in it"],
    ["leaseMs", 10 * SECOND - 1],
    ["leaseMs", 60 * MINUTE + 1],
    ["leaseMs", Number.NaN],
    ["workerId", ""],
    ["instance", "x".repeat(257)],
  ])("%s %j", async (field, value) => {
    const refused = await refusal(convex.claim({ leaseToken: newToken(), [field]: value }));
    expect(refused).toMatchObject({ code: "invalid", field });
  });

  test("except for short leases where the deployment allows them", async () => {
    const leaseMs = async (value: number) => await convex.claim({ leaseMs: value });
    process.env.FONDATION_MIN_LEASE_MS = "1000";
    await leaseMs(1000);
    expect(await refusal(leaseMs(999))).toMatchObject({ field: "leaseMs" });
    process.env.FONDATION_MIN_LEASE_MS = "1";
    expect(await refusal(leaseMs(999))).toMatchObject({ field: "leaseMs" });
    for (const noNumber of ["soon", ""]) {
      process.env.FONDATION_MIN_LEASE_MS = noNumber;
      expect(await refusal(leaseMs(9999))).toMatchObject({ field: "leaseMs" });
    }
  });
});

describe("reports out of bounds are refused:", () => {
  test.each([
    ["heartbeat", "beat", 0],
    ["heartbeat", "beat", 1.5],
    ["heartbeat", "currentStep", -1],
    ["heartbeat", "totalSteps", Number.NaN],
    ["fail", "class", "No such class"],
    ["fail", "class", ""],
    ["fail", "retryAt", Number.NaN],
    ["uploadUrl", "sha256", "x"],
  ])("%s with the %s %j", async (name, field, value) => {
    await convex.enqueue();
    const { token } = await convex.claim();
    const good = { heartbeat: { beat: 1 }, fail: { class: "crash", message: "m" }, uploadUrl: {} };
    const call = convex.work(name, {
      ...token,
      ...good[name as keyof typeof good],
      [field]: value,
    });
    expect(await refusal(call)).toMatchObject({ code: "invalid", field });
  });
});

describe("the list of jobs", () => {
  test("is shorter where something else of a front end is very long", async () => {
    const row = { status: "failed" as const, prompt: "p", createdAt: NOW };
    const progress = "x".repeat(900 * 1024);
    const insert = async () =>
      await convex.inside(async (ctx) => {
        for (let i = 0; i < 10; i += 1) await ctx.db.insert("jobs", { ...row, progress });
      });
    await insert();
    await insert();
    expect((await convex.jobs({ limit: 20 })).length).toBeGreaterThan(5);
  });

  test("is newest first, of a status when one is named", async () => {
    const ids: string[] = [];
    for (let i = 0; i < 25; i += 1) ids.push(await convex.enqueue({ priority: i % 5, runAt: i }));
    const newest = ids.toReversed();
    const idsOf = async (args = {}) =>
      (await convex.jobs(args)).map(({ id }: { id: string }) => id);
    expect(await idsOf()).toEqual(newest.slice(0, 20));
    expect(await idsOf({ limit: 3 })).toEqual(newest.slice(0, 3));
    const { answer } = await convex.claim();
    expect(await idsOf({ status: "claimed" })).toEqual([answer.job.id]);
    const pending = newest.filter((id) => id !== answer.job.id);
    expect(await idsOf({ status: "pending", limit: 100 })).toEqual(pending);
  });

  test("is shorter where the prompts are very long", async () => {
    const prompt = "x".repeat(200 * 1024);
    for (let i = 0; i < 60; i += 1) await convex.enqueue({ prompt });
    const { length } = await convex.jobs({ limit: 100 });
    expect(length).toBeGreaterThan(20);
    expect(length).toBeLessThan(60);
  });

  test.each([0, 101, 1.5, Number.NaN])("has no limit of %s", async (limit) => {
    const refused = await refusal(convex.jobs({ limit }));
    expect(refused).toMatchObject({ code: "invalid", field: "limit" });
  });
});

test("what does not exist is null or empty", async () => {
  expect(await convex.job("nonsense")).toBeNull();
  expect(await convex.docs("nonsense")).toEqual([]);
});
