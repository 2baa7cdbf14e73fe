/** `fail` and `release`: what the row says afterwards, and what a repeated call gets. */

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Id } from "../../convex/server";
import { DAY, type Deployment, deploy, MINUTE, NOW, SECOND, type Token } from "./deployment";

let convex: Deployment;
beforeEach(async () => {
  convex = await deploy();
});
afterEach(() => vi.useRealTimers());

async function running(job: Record<string, unknown> = {}): Promise<Token> {
  await convex.enqueue(job);
  return await again();
}

async function again(): Promise<Token> {
  const { token } = await convex.claim();
  await convex.work("heartbeat", { ...token, beat: 1, progress: "reading", currentStep: 1 });
  return token;
}

async function attemptRows() {
  return await convex.inside(async (ctx) => await ctx.db.query("attempts").collect());
}

describe("a failed job", () => {
  test("waits for its next attempt and says why", async () => {
    const token = await running();
    const failure = { class: "clone_failed", message: "could not resolve host" };
    const answer = await convex.work("fail", { ...token, ...failure });
    expect(answer).toMatchObject({ status: "pending", attempts: 1, now: NOW });
    expect(answer.runAt - NOW).toBeGreaterThanOrEqual(5 * SECOND);
    expect(answer.runAt - NOW).toBeLessThanOrEqual(10 * SECOND);
    const job = await convex.job(token.jobId);
    expect(job).toMatchObject({
      status: "pending",
      runAt: answer.runAt,
      lastError: "could not resolve host",
      errorClass: "clone_failed",
    });
    expect([job.error, job.leaseUntil, job.completedAt]).toEqual([undefined, undefined, undefined]);
  });

  test("starts its next attempt with a clean row", async () => {
    const token = await running();
    const { runAt } = await convex.work("fail", { ...token, class: "timeout", message: "slow" });
    await convex.pass(runAt - NOW);
    const { answer } = await convex.claim();
    expect(answer.job).toMatchObject({ id: token.jobId, attempt: 2, attempts: 1 });
    const job = await convex.job(token.jobId);
    expect(job).toMatchObject({ status: "claimed", lastError: "slow" });
    expect([job.progress, job.currentStep]).toEqual([undefined, undefined]);
  });

  test("is dead when the attempts are spent", async () => {
    const token = await running({ maxAttempts: 1 });
    const answer = await convex.work("fail", { ...token, class: "no_result", message: "no text" });
    expect(answer).toEqual({ status: "dead", attempts: 1, now: NOW });
    expect(await convex.job(token.jobId)).toMatchObject({
      status: "dead",
      error: "no text",
      lastError: "no text",
      errorClass: "no_result",
      completedAt: NOW,
    });
  });

  test("is dead when it has no result for the second time in a row", async () => {
    const failure = { class: "no_result", message: "no text" };
    const fails = async (token: Token, fields = {}) =>
      (await convex.work("fail", { ...token, ...failure, ...fields })).status;
    const token = await running();
    const { jobId } = token;
    expect(await fails(token)).toBe("pending");
    await convex.pass(MINUTE);
    expect(await fails(await again(), { class: "timeout" })).toBe("pending");
    await convex.pass(MINUTE);
    expect(await fails(await again())).toBe("pending");
    await convex.pass(MINUTE);
    await convex.work("release", await again());
    expect(await fails(await again())).toBe("dead");
    expect(await convex.job(jobId)).toMatchObject({ attempts: 4, errorClass: "no_result" });
    await convex.inside(async (ctx) => {
      await ctx.db.patch(jobId as Id<"jobs">, { status: "pending", attempts: 0 });
    });
    expect(await fails(await again())).toBe("pending");
  });

  test("is dead at once where another attempt cannot help", async () => {
    const token = await running();
    const failure = { class: "repository_missing", message: "404" };
    expect(await convex.work("fail", { ...token, ...failure })).toMatchObject({ status: "dead" });
  });

  test("that was rate-limited waits as it is told and keeps its attempt", async () => {
    const token = await running();
    const retryAt = NOW + 20 * MINUTE;
    const failure = { class: "rate_limited", message: "limit", retryAt };
    const answer = await convex.work("fail", { ...token, ...failure });
    expect(answer).toEqual({ status: "pending", attempts: 0, runAt: retryAt, now: NOW });
  });

  test("keeps at most 16 KiB of the message, without half a character", async () => {
    const token = await running({ maxAttempts: 1 });
    await convex.work("fail", { ...token, class: "crash", message: `x${"🦀".repeat(5000)}` });
    const { error } = await convex.job(token.jobId);
    expect(error).toBe(`x${"🦀".repeat(4095)}\n[cut: 20001 bytes]`);
  });

  test("keeps a mark of byte order at the beginning of a long message", async () => {
    const token = await running({ maxAttempts: 1 });
    await convex.work("fail", { ...token, class: "crash", message: `\ufeff${"x".repeat(20_000)}` });
    const { error } = await convex.job(token.jobId);
    expect(error).toBe(`\ufeff${"x".repeat(16_381)}\n[cut: 20003 bytes]`);
  });
});

describe("a released job", () => {
  test("is claimable at once and keeps its attempt", async () => {
    const token = await running({ maxAttempts: 1 });
    const answer = await convex.work("release", { ...token, reason: "shutting down" });
    expect(answer).toEqual({ status: "pending", runAt: NOW, now: NOW });
    expect((await again()).attempt).toBe(2);
    expect(await convex.job(token.jobId)).toMatchObject({ attempts: 1, attempt: 2 });
    expect(await attemptRows()).toMatchObject([{ outcome: "released", note: "shutting down" }, {}]);
  });

  test("keeps what the failure before it said", async () => {
    const token = await running();
    const { runAt } = await convex.work("fail", { ...token, class: "timeout", message: "slow" });
    await convex.pass(runAt - NOW);
    await convex.work("release", await again());
    expect(await convex.job(token.jobId)).toMatchObject({
      lastError: "slow",
      errorClass: "timeout",
    });
  });

  test("waits longer when that happens often", async () => {
    await convex.enqueue();
    const waits: number[] = [];
    for (let i = 0; i < 6; i += 1) {
      const { runAt, now } = await convex.work("release", await again());
      waits.push(runAt - now);
      await convex.pass(runAt - now);
    }
    expect(waits).toEqual([0, 0, 0, 0, MINUTE, 2 * MINUTE]);
  });

  test("is given up a week after its first claim", async () => {
    await convex.work("release", await running());
    convex.skip(7 * DAY);
    const token = await again();
    expect(await convex.work("release", token)).toEqual({ status: "dead", now: NOW + 7 * DAY });
    const job = await convex.job(token.jobId);
    expect(job).toMatchObject({ status: "dead", errorClass: "gave_up_waiting" });
    expect(job.error).toContain("7 days");
  });
});

describe("the same call again", () => {
  test("gets the same answer, before and after the next claim", async () => {
    const token = await running();
    const failure = { ...token, class: "timeout", message: "slow" };
    const { now: _, ...answer } = await convex.work("fail", failure);
    await convex.pass(answer.runAt - NOW);
    expect(await convex.work("fail", failure)).toEqual({ ...answer, now: Date.now() });
    const next = await again();
    expect(await convex.work("fail", failure)).toMatchObject(answer);
    await convex.work("release", next);
    expect(await convex.work("release", next)).toMatchObject({ status: "pending" });
    expect(await convex.job(token.jobId)).toMatchObject({ attempts: 1, attempt: 2 });
    expect((await convex.row(token.jobId)).leaseToken).toBeUndefined();
  });
});

test("every attempt is written down with its end", async () => {
  const token = await running();
  await convex.work("fail", { ...token, class: "timeout", message: "slow" });
  const other = await running();
  await convex.pass(5 * MINUTE);
  expect(await attemptRows()).toMatchObject([
    { token: token.leaseToken, outcome: "timeout", note: "slow", endedAt: NOW },
    { token: other.leaseToken, outcome: "lease_expired", endedAt: NOW + 5 * MINUTE },
  ]);
});
