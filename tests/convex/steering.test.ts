/** What operators do to jobs: cancel them, and try them again. */

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
  OPERATOR_KEY,
  refusal,
  type Token,
} from "./deployment";

let convex: Deployment;
beforeEach(async () => {
  convex = await deploy();
});
afterEach(() => vi.useRealTimers());

const steer = async (name: "cancel" | "retry", jobId: string) =>
  await convex.mutation(`jobs:${name}`, { operatorKey: OPERATOR_KEY, jobId });

const told = async (instance = "w-1") =>
  (await convex.query("queue:cancellations", { workerKey: "a worker's key", instance })).jobs;

/** A claimed job whose attempt is spent, with a lease of 5 minutes. */
async function running(job: Record<string, unknown> = {}): Promise<Token> {
  await convex.enqueue(job);
  return await again();
}

async function again(): Promise<Token> {
  const { token } = await convex.claim();
  await convex.work("heartbeat", { ...token, beat: 1 });
  return token;
}

/** A job that died of its failure. */
async function died(): Promise<Token> {
  const token = await running({ maxAttempts: 1, priority: 3 });
  await convex.work("fail", { ...token, class: "timeout", message: "slow" });
  return token;
}

async function patch(jobId: string, fields: Partial<Doc<"jobs">>): Promise<void> {
  await convex.inside(async (ctx) => await ctx.db.patch(jobId as Id<"jobs">, fields));
}

async function complete(token: Token) {
  const { document, digest } = await handIn(0);
  await convex.work("stageDocs", { ...token, docs: [document] });
  return await convex.work("complete", { ...token, digests: [digest], message: "done" });
}

/** What each call of the token is refused with. */
async function refusals(token: Token) {
  const failure = { class: "crash", message: "m" };
  return [
    await refusal(convex.work("heartbeat", { ...token, beat: 9 })),
    await refusal(convex.work("fail", { ...token, ...failure })),
    await refusal(convex.work("release", token)),
    await refusal(complete(token)),
  ];
}

const lost = (reason: string) => Array(4).fill({ code: "lease_lost", reason });

describe("a job that is cancelled", () => {
  test("is canceled at once, and its worker may do nothing more, also after its lease", async () => {
    const token = await running();
    expect(await steer("cancel", token.jobId)).toEqual({ status: "canceled", now: NOW });
    const job = await convex.job(token.jobId);
    expect(job).toMatchObject({ status: "canceled", completedAt: NOW, updatedAt: NOW });
    expect(job.leaseUntil).toBeUndefined();
    expect(await refusals(token)).toEqual(lost("canceled"));
    await convex.pass(HOUR);
    expect(await refusals(token)).toEqual(lost("canceled"));
    expect(await convex.job(token.jobId)).toEqual(job);
  });

  test("is told to the instance that holds it, and to no other", async () => {
    const token = await running();
    await convex.enqueue();
    const other = (await convex.claim({ instance: "w-2" })).token;
    await steer("cancel", token.jobId);
    expect(await told()).toEqual([{ jobId: token.jobId, attempt: 1 }]);
    expect(await told("w-2")).toEqual([]);
    await convex.work("heartbeat", { ...other, beat: 1 });
  });

  test("is told to who may still hand in although its lease is over", async () => {
    const token = await running();
    await convex.pass(5 * MINUTE);
    await steer("cancel", token.jobId);
    expect(await told()).toEqual([{ jobId: token.jobId, attempt: 1 }]);
    expect(await refusals(token)).toEqual(lost("canceled"));
  });

  test("that nobody holds is told to nobody, and claimed by nobody", async () => {
    const failed = await running();
    await convex.work("fail", { ...failed, class: "timeout", message: "slow" });
    const jobId = await convex.enqueue();
    for (const id of [jobId, failed.jobId]) await steer("cancel", id);
    expect(await told()).toEqual([]);
    await convex.pass(HOUR);
    expect((await convex.claim()).answer).toMatchObject({ job: null, nextRunAt: null });
    expect(await convex.job(failed.jobId)).toMatchObject({ status: "canceled", lastError: "slow" });
  });

  test("is written down with its attempt", async () => {
    const token = await running();
    await steer("cancel", token.jobId);
    const attempts = await convex.inside(async (ctx) => await ctx.db.query("attempts").collect());
    expect(attempts).toMatchObject([{ token: token.leaseToken, outcome: "canceled" }]);
  });

  test("and had ended before stays as it is", async () => {
    const completed = await running();
    await complete(completed);
    const canceled = await convex.enqueue();
    await steer("cancel", canceled);
    const dead = await died();
    const failed = await convex.enqueue();
    await patch(failed, { status: "failed" });
    for (const [jobId, already] of [
      [completed.jobId, "completed"],
      [canceled, "canceled"],
      [dead.jobId, "dead"],
      [failed, "failed"],
    ] as const) {
      const row = await convex.row(jobId);
      expect(await steer("cancel", jobId)).toEqual({ already, now: NOW });
      expect(await convex.row(jobId)).toEqual(row);
    }
    expect(await told()).toEqual([]);
  });

  test("is told of for an hour, at most 100 of them, the latest", async () => {
    for (let i = 0; i < 101; i += 1) await steer("cancel", (await running()).jobId);
    const latest = await running();
    await steer("cancel", latest.jobId);
    const jobs = await told();
    expect(jobs).toHaveLength(100);
    expect(jobs[0]).toEqual({ jobId: latest.jobId, attempt: 1 });
  });
});

describe("a job that is retried", () => {
  test("runs now with all of its attempts, under the next ordinal, at its priority", async () => {
    const token = await died();
    convex.skip(DAY);
    const now = NOW + DAY;
    expect(await steer("retry", token.jobId)).toEqual({ status: "pending", now });
    const job = await convex.job(token.jobId);
    expect(job).toMatchObject({ status: "pending", attempts: 0, attempt: 1, runAt: now });
    expect(job).toMatchObject({ priority: 3, lastError: "slow" });
    expect([job.error, job.errorClass, job.completedAt]).toEqual([undefined, undefined, undefined]);
    expect(await again()).toMatchObject({ jobId: token.jobId, attempt: 2 });
  });

  test("waits no longer after a failure", async () => {
    const token = await running({ maxAttempts: 3 });
    await convex.work("fail", { ...token, class: "timeout", message: "slow" });
    expect((await convex.claim()).answer.job).toBeNull();
    await steer("retry", token.jobId);
    expect((await convex.claim()).answer.job).toMatchObject({ id: token.jobId, attempts: 0 });
  });

  test.each([2, 1])("takes no result from a worker whose lease ran out, %i left", async (most) => {
    const token = await running({ maxAttempts: most });
    await convex.pass(5 * MINUTE);
    await steer("retry", token.jobId);
    expect(await complete(token)).toMatchObject({ status: "completed" });
    expect((await convex.claim()).answer.job).toBeNull();
  });

  test("is superseded for the earlier worker only by a claim", async () => {
    const token = await running({ maxAttempts: 1 });
    await convex.pass(5 * MINUTE);
    await steer("retry", token.jobId);
    const next = await again();
    expect(await refusals(token)).toEqual(lost("superseded"));
    expect(await complete(next)).toMatchObject({ status: "completed" });
  });

  test("after a cancellation gives nothing back to the worker that held it", async () => {
    const token = await running();
    await steer("cancel", token.jobId);
    await steer("retry", token.jobId);
    expect(await refusals(token)).toEqual(lost("canceled"));
    expect(await complete(await again())).toMatchObject({ status: "completed" });
  });

  test.each<Partial<Doc<"jobs">>>([
    { status: "canceled" },
    { status: "failed" },
    { status: "pending" },
    { status: "pending", cancelRequested: true },
  ])("after a front end's cancellation gives nothing back either: %j", async (fields) => {
    for (const waited of [0, 5 * MINUTE]) {
      const token = await running();
      await convex.pass(waited);
      // After the lease, `pending` alone is no cancellation.
      await patch(token.jobId, { ...fields, ...(waited > 0 && { cancelRequested: true }) });
      await steer("retry", token.jobId);
      expect(await refusals(token)).toEqual(lost("canceled"));
      const row = await convex.row(token.jobId);
      expect(row).toMatchObject({ status: "pending", attempts: 0, attempt: 1 });
      expect([row.cancelRequested, row.expiresAt]).toEqual([undefined, undefined]);
      expect(await complete(await again())).toMatchObject({ status: "completed" });
    }
  });

  test("has a week again until it is given up, and returns as quickly as a new one", async () => {
    await convex.work("release", await running());
    convex.skip(7 * DAY);
    const token = await again();
    await convex.work("release", token);
    await steer("retry", token.jobId);
    const released = await convex.work("release", await again());
    expect(released).toMatchObject({ status: "pending", runAt: NOW + 7 * DAY });
  });

  test("answers the call that ended its attempt as before", async () => {
    const token = await died();
    await steer("retry", token.jobId);
    const failure = { ...token, class: "timeout", message: "slow" };
    expect(await convex.work("fail", failure)).toMatchObject({ status: "dead", attempts: 1 });
    expect(await convex.job(token.jobId)).toMatchObject({ status: "pending", attempts: 0 });
  });

  test("is neither completed nor in flight", async () => {
    const completed = await running();
    await complete(completed);
    const held = await running();
    const foreign = await convex.enqueue();
    await patch(foreign, { status: "running" });
    for (const jobId of [completed.jobId, held.jobId, foreign]) {
      const row = await convex.row(jobId);
      const refused = { code: "invalid", field: "jobId" };
      expect(await refusal(steer("retry", jobId))).toMatchObject(refused);
      expect(await convex.row(jobId)).toEqual(row);
    }
    await steer("cancel", foreign);
    expect(await steer("retry", foreign)).toMatchObject({ status: "pending" });
  });
});

test("what does not exist can be neither cancelled nor retried", async () => {
  for (const name of ["cancel", "retry"] as const) {
    const refused = { code: "invalid", field: "jobId" };
    expect(await refusal(steer(name, "nonsense"))).toMatchObject(refused);
  }
});
