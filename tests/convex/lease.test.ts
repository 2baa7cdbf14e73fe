/** Leases: how they are renewed, how they end, and what a token may do afterwards. */

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import {
  DAY,
  type Deployment,
  deploy,
  HOUR,
  handIn,
  MINUTE,
  NOW,
  newToken,
  refusal,
  SECOND,
  type Token,
} from "./deployment";

let convex: Deployment;
beforeEach(async () => {
  convex = await deploy();
});
afterEach(() => vi.useRealTimers());

/** A claimed job whose attempt is spent, with a lease of 5 minutes. */
async function running(job: Record<string, unknown> = {}): Promise<Token> {
  await convex.enqueue(job);
  const { token } = await convex.claim();
  await convex.work("heartbeat", { ...token, beat: 1 });
  return token;
}

const lost = (reason: string) => ({ code: "lease_lost", reason });

describe("a heartbeat", () => {
  test("makes the first lease whole and spends the attempt once", async () => {
    await convex.enqueue();
    const { token } = await convex.claim();
    const first = await convex.work("heartbeat", { ...token, beat: 1 });
    expect(first).toEqual({ leaseUntil: NOW + 5 * MINUTE, now: NOW });
    await convex.work("heartbeat", { ...token, beat: 2 });
    expect(await convex.job(token.jobId)).toMatchObject({
      attempts: 1,
      leaseUntil: NOW + 5 * MINUTE,
    });
  });

  test("that is not newer changes nothing and is answered all the same", async () => {
    const token = await running();
    await convex.work("heartbeat", { ...token, beat: 3, progress: "reading" });
    convex.skip(MINUTE);
    for (const beat of [3, 1]) {
      const old = { ...token, beat, status: "gathering", progress: "old" };
      const answer = await convex.work("heartbeat", old);
      expect(answer).toEqual({ leaseUntil: NOW + 5 * MINUTE, now: NOW + MINUTE });
    }
    expect(await convex.job(token.jobId)).toMatchObject({ status: "claimed", progress: "reading" });
  });

  test("never shortens a lease", async () => {
    await convex.enqueue();
    const { token, answer } = await convex.claim({ leaseMs: 10 * SECOND });
    convex.skip(-5 * SECOND);
    const { leaseUntil } = await convex.work("heartbeat", { ...token, beat: 1 });
    expect(leaseUntil).toBe(answer.leaseUntil);
  });

  test("moves the status only forward", async () => {
    const token = await running();
    const statuses: string[] = [];
    for (const [i, status] of ["analyzing", "cloning", "gathering", "analyzing"].entries()) {
      await convex.work("heartbeat", { ...token, beat: i + 2, status });
      statuses.push((await convex.job(token.jobId)).status);
    }
    expect(statuses).toEqual(["analyzing", "analyzing", "gathering", "gathering"]);
  });

  test("keeps what it does not name, and cuts what is too long", async () => {
    const token = await running();
    const steps = { currentStep: 2, totalSteps: 4, progress: "é".repeat(1000) };
    await convex.work("heartbeat", { ...token, beat: 2, ...steps });
    await convex.work("heartbeat", { ...token, beat: 3, currentStep: 3 });
    const job = await convex.job(token.jobId);
    expect(job).toMatchObject({ currentStep: 3, totalSteps: 4 });
    expect(job.progress).toBe(`${"é".repeat(512)}\n[cut: 2000 bytes]`);
  });

  test("is refused when the lease is over, before anybody noticed", async () => {
    const token = await running();
    convex.skip(5 * MINUTE);
    expect(await refusal(convex.work("heartbeat", { ...token, beat: 2 }))).toEqual(lost("expired"));
  });
});

describe("a lease that nobody renews", () => {
  test("gives the job back when it ends, not before", async () => {
    const token = await running();
    await convex.pass(5 * MINUTE - 1);
    expect((await convex.job(token.jobId)).status).toBe("claimed");
    await convex.pass(1);
    const job = await convex.job(token.jobId);
    expect(job).toMatchObject({ status: "pending", attempts: 1, runAt: NOW + 5 * MINUTE });
    expect(job).toMatchObject({ errorClass: "lease_expired" });
    expect(job.error).toBeUndefined();
    expect(job.leaseUntil).toBeUndefined();
    expect((await convex.claim()).answer.job).toMatchObject({ attempt: 2, attempts: 1 });
  });

  test("is one scheduled call however often it was renewed", async () => {
    const token = await running();
    for (let beat = 2; beat < 12; beat += 1) {
      await convex.pass(MINUTE);
      await convex.work("heartbeat", { ...token, beat });
    }
    expect(await scheduledCalls()).toBe(1);
    await convex.pass(5 * MINUTE);
    expect((await convex.job(token.jobId)).status).toBe("pending");
  });

  test("is not looked at again for a job that was claimed anew", async () => {
    const token = await running();
    await convex.work("release", token);
    const { token: next } = await convex.claim();
    await convex.work("heartbeat", { ...next, beat: 1 });
    await convex.pass(MINUTE);
    expect(await scheduledCalls()).toBe(1);
  });

  test("is nothing to a job that settled before", async () => {
    const completed = await running();
    await complete(completed);
    const failed = await running();
    await convex.work("fail", { ...failed, class: "timeout", message: "slow" });
    const rows = [await convex.row(completed.jobId), await convex.row(failed.jobId)];
    await convex.pass(HOUR);
    expect([await convex.row(completed.jobId), await convex.row(failed.jobId)]).toEqual(rows);
  });

  test("spends nothing before the first heartbeat", async () => {
    const jobId = await convex.enqueue({ maxAttempts: 1 });
    await convex.claim();
    await convex.pass(30 * SECOND);
    expect(await convex.job(jobId)).toMatchObject({ status: "pending", attempts: 0, attempt: 1 });
  });

  test("is the death of a job without attempts left", async () => {
    const token = await running({ maxAttempts: 1 });
    await convex.pass(5 * MINUTE);
    const job = await convex.job(token.jobId);
    expect(job).toMatchObject({ status: "dead", attempts: 1, errorClass: "lease_expired" });
    expect(job).toMatchObject({ error: job.lastError, completedAt: NOW + 5 * MINUTE });
  });

  test("leaves a result on its way 10 minutes more", async () => {
    const token = await running({ maxAttempts: 1 });
    await convex.work("heartbeat", { ...token, beat: 2, status: "gathering" });
    await convex.pass(15 * MINUTE - 1);
    expect((await convex.job(token.jobId)).status).toBe("gathering");
    expect(await refusal(convex.work("heartbeat", { ...token, beat: 3 }))).toEqual(lost("expired"));
    await convex.pass(1);
    expect((await convex.job(token.jobId)).status).toBe("dead");
  });

  test("is swept where the scheduler missed it", async () => {
    const token = await running();
    convex.skip(5 * MINUTE);
    await convex.cron("sweep");
    expect((await convex.job(token.jobId)).status).toBe("pending");
  });

  test("is swept a few jobs in each call where their rows are large", async () => {
    const job = { status: "claimed" as const, prompt: "x".repeat(900 * 1024), createdAt: NOW };
    const lease = { attempt: 1, beat: 1, expiresAt: NOW };
    for (let i = 0; i < 20; i += 1) {
      await convex.inside(async (ctx) => await ctx.db.insert("jobs", { ...job, ...lease }));
    }
    for (let i = 0; i < 4; i += 1) await convex.cron("sweep");
    expect(await convex.jobs({ status: "claimed" })).toEqual([]);
  });

  test("is not swept while it runs", async () => {
    const token = await running();
    convex.skip(5 * MINUTE - 1);
    await convex.cron("sweep");
    expect((await convex.job(token.jobId)).status).toBe("claimed");
  });
});

async function scheduledCalls(): Promise<number> {
  return await convex.inside(async (ctx) => {
    const scheduled = await ctx.db.system.query("_scheduled_functions").collect();
    return scheduled.filter(({ state }) => state.kind === "pending").length;
  });
}

describe("an outage", () => {
  /** A job whose lease ended while nothing ran for an hour. */
  async function outlived(): Promise<Token> {
    const token = await running();
    await convex.cron("beat");
    convex.skip(HOUR);
    return token;
  }
  const statusOf = async ({ jobId }: Token) => (await convex.job(jobId)).status;

  test("puts no job back until 2 minutes after the pulse came back", async () => {
    const token = await outlived();
    await convex.cron("beat");
    await convex.cron("sweep");
    await convex.pass(2 * MINUTE - 1);
    await convex.cron("sweep");
    expect(await statusOf(token)).toBe("claimed");
    await convex.pass(1);
    expect(await statusOf(token)).toBe("pending");
  });

  test("counts as not over where the scheduler runs before the pulse", async () => {
    const token = await outlived();
    await convex.cron("sweep");
    await convex.pass(MINUTE);
    await convex.cron("beat");
    await convex.pass(2 * MINUTE - 1);
    expect(await statusOf(token)).toBe("claimed");
    await convex.pass(1);
    expect(await statusOf(token)).toBe("pending");
  });

  test("leaves the owner the time to hand in", async () => {
    const token = await outlived();
    await convex.cron("beat");
    await convex.pass(MINUTE);
    await complete(token);
    await convex.pass(HOUR);
    expect(await statusOf(token)).toBe("completed");
  });

  test("does not hold jobs for ever where the pulse never comes back", async () => {
    const token = await outlived();
    await convex.pass(5 * MINUTE);
    expect(await statusOf(token)).toBe("pending");
  });

  test.each([
    { gap: 150 * SECOND, becomes: "pending" },
    { gap: 150 * SECOND + 1, becomes: "claimed" },
  ])("is a gap of more than 150 s: after $gap ms a sweep leaves $becomes", async (example) => {
    const token = await running();
    convex.skip(3 * MINUTE);
    await convex.cron("beat");
    convex.skip(example.gap);
    await convex.cron("beat");
    await convex.cron("sweep");
    expect(await statusOf(token)).toBe(example.becomes);
  });
});

describe("a token", () => {
  test("that expired still hands in, also when the job is dead", async () => {
    for (const maxAttempts of [2, 1]) {
      const token = await running({ maxAttempts });
      await convex.pass(5 * MINUTE);
      expect((await convex.job(token.jobId)).status).toBe(maxAttempts === 1 ? "dead" : "pending");
      await complete(token);
      const job = await convex.job(token.jobId);
      expect(job).toMatchObject({ status: "completed", docsCount: 1 });
      expect([job.error, job.lastError, job.errorClass]).toEqual([undefined, undefined, undefined]);
    }
  });

  test("is superseded by the next claim, for every call", async () => {
    const token = await running();
    await convex.pass(5 * MINUTE);
    await convex.claim();
    for (const call of everyCall(token)) expect(await refusal(call())).toEqual(lost("superseded"));
  });

  test("that expired may not work on", async () => {
    const token = await running();
    await convex.pass(5 * MINUTE);
    const fail = convex.work("fail", { ...token, class: "crash", message: "late" });
    expect(await refusal(fail)).toEqual(lost("expired"));
    expect(await refusal(convex.work("release", token))).toEqual(lost("expired"));
  });

  test("that settled may do nothing else", async () => {
    const token = await running();
    await convex.work("release", token);
    const others = everyCall(token).slice(0, -1);
    for (const call of others) expect(await refusal(call())).toEqual(lost("settled"));
  });

  test("of a completed job may do nothing else", async () => {
    const token = await running();
    await complete(token);
    for (const name of ["heartbeat", "fail", "release", "uploadUrl"] as const) {
      expect(await refusal(call(name, token))).toEqual(lost("completed"));
    }
    const older = { ...token, leaseToken: newToken(), attempt: 0 };
    expect(await refusal(call("heartbeat", older))).toEqual(lost("completed"));
  });

  test("that is not the job's is refused, whatever the attempt it names", async () => {
    const token = await running();
    const stranger = { ...token, leaseToken: newToken() };
    for (const call of everyCall(stranger))
      expect(await refusal(call())).toEqual(lost("superseded"));
    const older = { ...token, attempt: 0 };
    for (const call of everyCall(older)) expect(await refusal(call())).toEqual(lost("superseded"));
  });

  test("is not that of a twin: a worker of the same name and instance", async () => {
    const token = await running();
    await convex.enqueue();
    const twin = (await convex.claim()).token;
    const confused = { ...twin, jobId: token.jobId };
    for (const call of everyCall(confused))
      expect(await refusal(call())).toEqual(lost("superseded"));
    expect(await convex.job(token.jobId)).toMatchObject({ status: "claimed" });
  });

  test("of a job that is gone is lost", async () => {
    const token = await running();
    const { _id } = await convex.row(token.jobId);
    await convex.inside(async (ctx) => await ctx.db.delete(_id));
    for (const call of everyCall(token)) expect(await refusal(call())).toEqual(lost("gone"));
    const nonsense = { ...token, jobId: "nonsense" };
    for (const call of everyCall(nonsense)) expect(await refusal(call())).toEqual(lost("gone"));
  });

  const calls = {
    heartbeat: { beat: 9 },
    stageDocs: {
      docs: [{ index: 0, slug: "s", title: "t", kind: "toc", chapterIndex: 0, content: "" }],
    },
    uploadUrl: { sha256: "0".repeat(64) },
    complete: { digests: ["0".repeat(64)], message: "m" },
    fail: { class: "crash", message: "m" },
    release: {},
  };

  async function call(name: keyof typeof calls, token: Token) {
    return await convex.work(name, { ...token, ...calls[name] });
  }

  function everyCall(token: Token) {
    const names = Object.keys(calls) as (keyof typeof calls)[];
    return names.map((name) => async () => await call(name, token));
  }
});

async function complete(token: Token) {
  const { document, digest } = await handIn(0);
  await convex.work("stageDocs", { ...token, docs: [document] });
  return await convex.work("complete", { ...token, digests: [digest], message: "done" });
}

describe("the pulse", () => {
  test("is nothing, then the time of the last beat", async () => {
    expect(await convex.watch("pulse")).toBeNull();
    await convex.cron("beat");
    convex.skip(DAY);
    await convex.cron("beat");
    expect(await convex.watch("pulse")).toEqual({ at: NOW + DAY });
  });
});
