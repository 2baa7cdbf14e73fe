/** Claims: which job, for whom, and what a repeated claim gets. */

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { bestRunnable } from "../../convex/claiming";
import type { Id } from "../../convex/server";
import { type Deployment, deploy, HOUR, MINUTE, NOW, newToken, SECOND } from "./deployment";

// biome-ignore lint/suspicious/noTemplateCurlyInString: git allows a branch of this name
const HOSTILE_BRANCH = "main;touch${IFS}x";

const STATUSES = ["completed", "dead", "canceled", "failed", "running", "analyzing"] as const;

let convex: Deployment;
beforeEach(async () => {
  convex = await deploy();
});
afterEach(() => vi.useRealTimers());

describe("a claim", () => {
  test("answers all that the worker needs and no more", async () => {
    const jobId = await convex.enqueue({
      cloneUrl: "https://example.org/a.git",
      ref: HOSTILE_BRANCH,
      commit: "0123456789abcdef0123456789abcdef01234567",
      subdirectory: "src/app",
      model: "opus",
      timeoutMs: 2 * MINUTE,
      priority: 3,
      maxAttempts: 2,
    });
    const { answer } = await convex.claim({ leaseMs: 20 * SECOND });
    expect(answer).toEqual({
      job: {
        id: jobId,
        attempt: 1,
        attempts: 0,
        maxAttempts: 2,
        prompt: "Describe it.",
        repository: "https://example.org/a.git",
        cloneUrl: "https://example.org/a.git",
        ref: HOSTILE_BRANCH,
        commit: "0123456789abcdef0123456789abcdef01234567",
        subdirectory: "src/app",
        model: "opus",
        timeoutMs: 2 * MINUTE,
        priority: 3,
        createdAt: NOW,
        dueAt: NOW,
      },
      leaseUntil: NOW + 20 * SECOND,
      now: NOW,
    });
  });

  test("gives a first lease of at most 30 s and spends nothing", async () => {
    const jobId = await convex.enqueue();
    const { answer } = await convex.claim({ leaseMs: 5 * MINUTE });
    expect(answer.leaseUntil).toBe(NOW + 30 * SECOND);
    expect(await convex.job(jobId)).toMatchObject({ status: "claimed", attempt: 1, attempts: 0 });
  });

  test("is written down under the instance", async () => {
    const jobId = await convex.enqueue();
    await convex.claim({ workerId: "label", instance: "label-7f" });
    expect(await convex.row(jobId)).toMatchObject({ workerId: "label", lockedBy: "label-7f" });
    const rows = await convex.inside(async (ctx) => await ctx.db.query("attempts").collect());
    expect(rows).toMatchObject([{ jobId, attempt: 1, instance: "label-7f", startedAt: NOW }]);
  });

  test("of nothing answers when there will be something", async () => {
    expect((await convex.claim()).answer).toEqual({ job: null, nextRunAt: null, now: NOW });
    await convex.enqueue({ runAt: NOW + HOUR });
    await convex.enqueue({ runAt: NOW + MINUTE, priority: -10 });
    const { answer } = await convex.claim();
    expect(answer).toEqual({ job: null, nextRunAt: NOW + MINUTE, now: NOW });
  });

  test("leaves a token free that got nothing", async () => {
    const leaseToken = newToken();
    await convex.claim({ leaseToken });
    const jobId = await convex.enqueue();
    expect((await convex.claim({ leaseToken })).answer.job.id).toBe(jobId);
  });

  test("never gives one job to two tokens", async () => {
    await convex.enqueue();
    const claims = await Promise.all([convex.claim(), convex.claim(), convex.claim()]);
    expect(claims.filter(({ answer }) => answer.job !== null)).toHaveLength(1);
  });
});

describe("the same token", () => {
  test("gets the same job again while its lease runs, with the lease as it is now", async () => {
    await convex.enqueue();
    await convex.enqueue();
    const { answer, token } = await convex.claim();
    expect((await convex.claim({ leaseToken: token.leaseToken })).answer).toEqual(answer);
    const { leaseUntil } = await convex.work("heartbeat", { ...token, beat: 1 });
    const again = await convex.claim({ leaseToken: token.leaseToken });
    expect(again.answer).toMatchObject({ job: { id: token.jobId, attempts: 1 }, leaseUntil });
  });

  test("is lost when its lease is over, and never claims again", async () => {
    await convex.enqueue();
    const { token } = await convex.claim();
    await convex.pass(31 * SECOND);
    const again = await convex.claim({ leaseToken: token.leaseToken });
    expect(again.answer).toEqual({ lost: true, reason: "expired", now: Date.now() });
    await convex.claim();
    const superseded = await convex.claim({ leaseToken: token.leaseToken });
    expect(superseded.answer).toMatchObject({ lost: true, reason: "superseded" });
  });

  test("is lost after it settled, and when the job is gone", async () => {
    const jobId = await convex.enqueue();
    const first = (await convex.claim()).token;
    await convex.work("release", first);
    const settled = await convex.claim({ leaseToken: first.leaseToken });
    expect(settled.answer).toMatchObject({ lost: true, reason: "settled" });
    const second = (await convex.claim()).token;
    const { _id } = await convex.row(jobId);
    await convex.inside(async (ctx) => await ctx.db.delete(_id));
    const gone = await convex.claim({ leaseToken: second.leaseToken });
    expect(gone.answer).toMatchObject({ lost: true, reason: "gone" });
  });
});

describe("the order", () => {
  test("takes a row of an application that has a rank out of its bounds, last", async () => {
    const row = { status: "pending" as const, prompt: "p", createdAt: NOW, runAt: NOW };
    const theirs = await convex.inside(async (ctx) => {
      const fields = { ...row, rank: 11, cloneUrl: "https://example.org/a.git" };
      return await ctx.db.insert("jobs", fields);
    });
    const ours = await convex.enqueue({ priority: -10 });
    expect((await convex.claim()).answer.job?.id).toBe(ours);
    expect((await convex.claim()).answer.job?.id).toBe(theirs);
  });

  test("is priority, then time, then age", async () => {
    const later = await convex.enqueue({ runAt: NOW - 1 });
    const earlier = await convex.enqueue({ runAt: NOW - 2 });
    const twin = await convex.enqueue({ runAt: NOW - 2 });
    const low = await convex.enqueue({ priority: -1, runAt: 0 });
    const urgent = await convex.enqueue({ priority: 10 });
    await convex.enqueue({ priority: 10, runAt: NOW + MINUTE });
    const claimed: string[] = [];
    for (let i = 0; i < 5; i += 1) claimed.push((await convex.claim()).answer.job.id);
    expect(claimed).toEqual([urgent, earlier, twin, later, low]);
    expect((await convex.claim()).answer.job).toBeNull();
  });

  test("is that of a model over 400 random jobs, with at most 24 documents read", async () => {
    const random = seeded(20260105);
    type Row = { id: string; rank?: number; runAt?: number; created: number };
    const waiting: Row[] = [];
    await convex.inside(async (ctx) => {
      for (let i = 0; i < 400; i += 1) {
        const isOurs = random() < 0.8;
        const rank = isOurs ? Math.floor(random() * 21) - 10 : undefined;
        const hasTime = isOurs || random() < 0.5;
        // A few times only, so that ties happen.
        const runAt = hasTime ? NOW + Math.floor(random() * 40 - 20) * SECOND : undefined;
        const job = { prompt: "p", cloneUrl: "https://example.org/a", createdAt: NOW - SECOND };
        const id = await ctx.db.insert("jobs", { ...job, status: "pending", rank, runAt });
        waiting.push({ id, rank, runAt, created: i });
      }
    });
    const due = (row: Row) => row.runAt ?? NOW - SECOND;
    waiting.sort(
      (a, b) => (a.rank ?? 0) - (b.rank ?? 0) || due(a) - due(b) || a.created - b.created,
    );
    let mostRead = 0;
    while (waiting.length > 0) {
      const expected = waiting.findIndex((row) => due(row) <= Date.now());
      const { id, read } = await convex.inside(async (ctx) => {
        const best = await bestRunnable(ctx, Date.now());
        const { documentsRead } = await ctx.meta.getTransactionMetrics();
        if (best !== null) await ctx.db.patch(best._id, { status: "claimed" });
        return { id: best?._id, read: documentsRead.used };
      });
      mostRead = Math.max(mostRead, read);
      expect(id).toBe(waiting[expected]?.id);
      if (expected === -1) vi.setSystemTime(Date.now() + SECOND);
      else waiting.splice(expected, 1);
    }
    expect(mostRead).toBeGreaterThan(2);
    expect(mostRead).toBeLessThanOrEqual(24);
  });

  test("reads at most 24 documents in a whole claim, where every priority waits", async () => {
    for (let priority = -10; priority <= 10; priority += 1) {
      await convex.enqueue({ priority, runAt: NOW + HOUR });
    }
    expect(await documentsReadByClaim()).toBeLessThanOrEqual(24);
    await convex.enqueue({ priority: -10, cloneUrl: "https://example.org/due.git" });
    expect(await documentsReadByClaim()).toBeLessThanOrEqual(24);
  });

  test("looks at no lower priority than that of a front end's row that is due", async () => {
    for (let priority = -10; priority <= 10; priority += 1) {
      await convex.enqueue({ priority, runAt: NOW + HOUR });
    }
    const row = { status: "pending" as const, prompt: "p", createdAt: NOW };
    const fields = { ...row, cloneUrl: "https://example.org/theirs.git" };
    await convex.inside(async (ctx) => await ctx.db.insert("jobs", fields));
    expect(await documentsReadByClaim()).toBeLessThanOrEqual(13);
  });

  test("can be found where every priority waits with a long prompt, and the first are canceled", async () => {
    const prompt = "x".repeat(200 * 1024);
    for (let priority = -9; priority <= 10; priority += 1) {
      await convex.enqueue({ priority, prompt, runAt: NOW + HOUR });
    }
    for (let i = 0; i < 3; i += 1) await convex.enqueue({ priority: -10, prompt, runAt: i });
    await convex.inside(async (ctx) => {
      const due = ctx.db
        .query("jobs")
        .withIndex("by_status_runAt", (q) => q.eq("status", "pending"));
      const first = await due.take(3);
      for (const job of first) await ctx.db.patch(job._id, { cancelRequested: true });
    });
    for (let i = 0; i < 3; i += 1) {
      expect((await convex.claim()).answer).toMatchObject({ job: null, nextRunAt: NOW });
    }
    expect((await convex.claim()).answer).toMatchObject({ job: null, nextRunAt: NOW + HOUR });
  });

  test.each([
    { mix: "nothing due", due: 0, unranked: 0, unfit: 0 },
    { mix: "a few due", due: 0.002, unranked: 0.1, unfit: 0.3 },
    { mix: "half of them due", due: 0.5, unranked: 0.5, unfit: 0.5 },
  ])("reads at most 24 documents in a claim among 10,000 jobs: $mix", async (example) => {
    const random = seeded(Math.round(example.due * 1000) + 7);
    const chance = (part: number) => random() < part;
    await convex.inside(async (ctx) => {
      const names = { githubRepoId: "2", name: "e", fullName: "ada/e", defaultBranch: "main" };
      const user = { githubId: "1", username: "ada", createdAt: NOW };
      const userId = await ctx.db.insert("users", user);
      const repositories = [
        await ctx.db.insert("repositories", { userId, ...names }),
        await ctx.db.insert("repositories", { userId, ...names, fullName: "no name" }),
      ];
      for (let i = 0; i < 10_000; i += 1) {
        const isRanked = !chance(example.unranked);
        const time = NOW + Math.floor(random() * HOUR) * (chance(example.due) ? -1 : 1) + 1;
        await ctx.db.insert("jobs", {
          status: STATUSES[Math.floor(random() * 40)] ?? "pending",
          rank: isRanked ? Math.floor(random() * 21) - 10 : undefined,
          runAt: isRanked || chance(0.99) || example.due === 0 ? time : undefined,
          cancelRequested: chance(example.unfit / 2) || undefined,
          repositoryId: repositories[chance(example.unfit / 2) ? 1 : 0] as Id<"repositories">,
          prompt: "p",
          createdAt: NOW,
        });
      }
    });
    for (let claims = 0; claims < 6; claims += 1) {
      expect(await documentsReadByClaim()).toBeLessThanOrEqual(24);
      vi.setSystemTime(Date.now() + MINUTE);
    }
  });

  async function documentsReadByClaim(): Promise<number> {
    return await convex.inside(async (ctx) => {
      const { claimedBefore, claimNext } = await import("../../convex/claiming");
      const claim = { workerId: "w", instance: "w-1", leaseToken: newToken(), leaseMs: MINUTE };
      await claimedBefore(ctx, claim.leaseToken, Date.now());
      await claimNext(ctx, claim, Date.now());
      return (await ctx.meta.getTransactionMetrics()).documentsRead.used;
    });
  }
});

describe("work that is announced", () => {
  test("is the first of all pending jobs, whatever the time", async () => {
    expect(await convex.watch("workAvailable")).toBeNull();
    const later = await convex.enqueue({ runAt: NOW + HOUR });
    expect(await convex.watch("workAvailable")).toEqual({
      nextRunAt: NOW + HOUR,
      first: { id: later, attempt: 0 },
    });
    const sooner = await convex.enqueue();
    expect(await convex.watch("workAvailable")).toMatchObject({
      first: { id: sooner, attempt: 0 },
    });
    const { token } = await convex.claim();
    expect(await convex.watch("workAvailable")).toMatchObject({ first: { id: later } });
    await convex.work("release", token);
    expect(await convex.watch("workAvailable")).toMatchObject({
      first: { id: sooner, attempt: 1 },
    });
  });
});

/** Numbers from 0 to 1 that are the same in every run. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}
