/** The log of a job: each line once, in order, and no more than is worth keeping. */

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Id } from "../../convex/server";
import {
  type Deployment,
  deploy,
  handIn,
  MINUTE,
  NOW,
  newToken,
  OPERATOR_KEY,
  refusal,
  type Token,
} from "./deployment";

let convex: Deployment;
beforeEach(async () => {
  convex = await deploy();
});
afterEach(() => vi.useRealTimers());

const KIB = 1024;

async function running(): Promise<Token> {
  await convex.enqueue();
  const { token } = await convex.claim();
  await convex.work("heartbeat", { ...token, beat: 1 });
  return token;
}

const line = (n: number, msg = `line ${n}`) => ({ n, at: NOW + n, level: "info", msg });

const append = async (token: Token, lines: ReturnType<typeof line>[]) =>
  await convex.work("appendLogs", { ...token, lines });

const logs = async (jobId: string, args = {}) =>
  await convex.query("jobs:logs", { operatorKey: OPERATOR_KEY, jobId, ...args });

const seqs = async (jobId: string, args = {}) =>
  (await logs(jobId, args)).lines.map(({ seq }: { seq: number }) => seq);

describe("lines", () => {
  test("are read in order, each with its attempt", async () => {
    const token = await running();
    const error = { ...line(1), level: "error" };
    expect(await append(token, [error, line(0)])).toEqual({ full: false, now: NOW });
    await convex.work("release", token);
    const { token: next } = await convex.claim();
    await append(next, [line(0, "")]);
    expect(await logs(token.jobId)).toEqual({
      lines: [
        { seq: 1_000_000, attempt: 1, at: NOW, level: "info", msg: "line 0" },
        { seq: 1_000_001, attempt: 1, at: NOW + 1, level: "error", msg: "line 1" },
        { seq: 2_000_000, attempt: 2, at: NOW, level: "info", msg: "" },
      ],
      more: false,
    });
  });

  test("that are appended again are there once, as they were", async () => {
    const token = await running();
    await append(token, [line(0), line(1)]);
    await append(token, [line(1, "another"), line(2), line(2, "twice")]);
    const { lines } = await logs(token.jobId);
    expect(lines).toMatchObject([{ msg: "line 0" }, { msg: "line 1" }, { msg: "line 2" }]);
  });

  test("are taken from the latest token, its lease over or not, and from no other", async () => {
    const token = await running();
    await convex.pass(5 * MINUTE);
    await append(token, [line(0)]);
    const lost = { code: "lease_lost", reason: "superseded" };
    expect(await refusal(append({ ...token, leaseToken: newToken() }, [line(1)]))).toEqual(lost);
    await convex.claim();
    expect(await refusal(append(token, [line(1)]))).toEqual(lost);
    expect(await seqs(token.jobId)).toEqual([1_000_000]);
  });

  test("are read page by page", async () => {
    const token = await running();
    const all = Array.from({ length: 100 }, (_, n) => line(n));
    await append(token, all);
    await append(
      token,
      all.map(({ n }) => line(n + 100)),
    );
    await append(token, [line(200)]);
    const first = await logs(token.jobId);
    expect(first.lines).toHaveLength(200);
    expect(first.more).toBe(true);
    expect(await logs(token.jobId, { after: first.lines.at(-1).seq })).toMatchObject({
      lines: [{ msg: "line 200" }],
      more: false,
    });
    expect(await seqs(token.jobId, { after: 1_000_001, limit: 2 })).toEqual([1000002, 1000003]);
    expect(await seqs(token.jobId, { limit: 1000 })).toHaveLength(201);
  });

  test("do not touch the job", async () => {
    const token = await running();
    const row = await convex.row(token.jobId);
    convex.skip(1);
    await append(token, [line(0)]);
    expect(await convex.row(token.jobId)).toEqual(row);
  });

  test("of a front end are read with them, and are of no attempt", async () => {
    const token = await running();
    await append(token, [line(0)]);
    const row = { jobId: token.jobId as Id<"jobs">, ts: NOW, seq: NOW, level: "info" as const };
    await convex.inside(async (ctx) => await ctx.db.insert("jobLogs", { ...row, msg: "theirs" }));
    expect((await logs(token.jobId)).lines).toMatchObject([
      { attempt: 1, msg: "line 0" },
      { attempt: 0, msg: "theirs", seq: NOW },
    ]);
  });
});

describe("a log has bounds:", () => {
  test("a line has 4 KiB, and says where it was cut", async () => {
    const token = await running();
    await append(token, [line(0, "é".repeat(2 * KIB)), line(1, "é".repeat(2 * KIB + 1))]);
    const { lines } = await logs(token.jobId);
    expect(lines[0].msg).toBe("é".repeat(2 * KIB));
    expect(lines[1].msg).toBe(`${"é".repeat(2 * KIB)}\n[cut: 4098 bytes]`);
  });

  test("a job has 256 KiB, then one last line that says so", async () => {
    const token = await running();
    const long = Array.from({ length: 64 }, (_, n) => line(n, "x".repeat(4 * KIB - 1)));
    expect(await append(token, long)).toMatchObject({ full: false });
    expect(await append(token, long)).toMatchObject({ full: false });
    const further = [line(64), line(65)];
    expect(await append(token, further)).toMatchObject({ full: true });
    expect(await append(token, further)).toMatchObject({ full: true });
    expect(await append(token, [line(66)])).toMatchObject({ full: true });
    await convex.work("release", token);
    const { token: next } = await convex.claim();
    expect(await append(next, [line(0)])).toMatchObject({ full: true });
    const { lines } = await logs(token.jobId, { after: 1_000_062 });
    expect(lines).toHaveLength(2);
    expect(lines[1]).toMatchObject({ seq: 1_000_064, msg: expect.stringContaining("256 KiB") });
  });

  test.each([
    ["lines", Array.from({ length: 101 }, (_, n) => line(n))],
    ["lines.n", [line(-1)]],
    ["lines.n", [line(0.5)]],
    ["lines.n", [line(1_000_000)]],
    ["lines.at", [{ ...line(0), at: Number.NaN }]],
  ])("refuses %s", async (field, lines) => {
    const token = await running();
    expect(await refusal(append(token, lines))).toMatchObject({ code: "invalid", field });
  });

  test.each([0, 1001, 0.5])("has no pages of %s lines", async (limit) => {
    const { jobId } = await running();
    const refused = await refusal(logs(jobId, { limit }));
    expect(refused).toMatchObject({ code: "invalid", field: "limit" });
  });

  test("answers no more than a call may, where lines of a front end are very long", async () => {
    const { jobId } = await running();
    for (let seq = 0; seq < 20; seq += 1) {
      const row = { jobId: jobId as Id<"jobs">, ts: NOW, seq, level: "error" as const };
      const msg = "x".repeat(900 * KIB);
      await convex.inside(async (ctx) => await ctx.db.insert("jobLogs", { ...row, msg }));
    }
    const { lines, more } = await logs(jobId);
    expect(lines.length).toBeLessThan(20);
    expect(more).toBe(true);
  });
});

test("the last lines of a job are told before its result", async () => {
  const token = await running();
  const { document, digest } = await handIn(0);
  await convex.work("stageDocs", { ...token, docs: [document] });
  await convex.work("complete", { ...token, digests: [digest], message: "done" });
  const completed = { code: "lease_lost", reason: "completed" };
  expect(await refusal(append(token, [line(0)]))).toEqual(completed);
});

test("a job that does not exist has no lines", async () => {
  expect(await logs("nonsense")).toEqual({ lines: [], more: false });
});
