/** The hand-in: all of a result or nothing of it, once. */

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { sha256Hex } from "../../convex/digests";
import type { Id } from "../../convex/server";
import {
  type Deployment,
  deploy,
  handIn,
  MINUTE,
  NOW,
  newToken,
  refusal,
  type Token,
} from "./deployment";

let convex: Deployment;
beforeEach(async () => {
  convex = await deploy();
});
afterEach(() => vi.useRealTimers());

const KIB = 1024;

async function running(job: Record<string, unknown> = {}): Promise<Token> {
  await convex.enqueue(job);
  const { token } = await convex.claim();
  await convex.work("heartbeat", { ...token, beat: 1 });
  return token;
}

type Handed = Awaited<ReturnType<typeof handIn>>;

const stage = async (token: Token, handed: Handed[]) =>
  await convex.work("stageDocs", { ...token, docs: handed.map(({ document }) => document) });

const complete = async (token: Token, handed: Handed[], fields = {}) =>
  await convex.work("complete", {
    ...token,
    digests: handed.map(({ digest }) => digest),
    message: "done",
    ...fields,
  });

async function rowsOf(table: "stagedDocs" | "docs" | "uploads" | "attempts") {
  return await convex.inside(async (ctx) => await ctx.db.query(table).collect());
}

const store = async (text: string): Promise<Id<"_storage">> =>
  await convex.engine.run(async (ctx) => await ctx.storage.store(new Blob([text])));

describe("a result", () => {
  test("is invisible while it is staged and there at once when it is complete", async () => {
    const token = await running();
    const handed = [await handIn(0), await handIn(1, { kind: "tutorial", title: "Étude 🦀" })];
    expect(await stage(token, handed)).toEqual({ staged: 2 });
    expect(await convex.docs(token.jobId)).toEqual([]);
    expect(await complete(token, handed)).toEqual({ status: "completed", docsCount: 2, now: NOW });
    expect(await convex.docs(token.jobId)).toEqual([
      {
        slug: "chapter-0",
        title: "Chapter 0",
        kind: "chapter",
        chapterIndex: 0,
        content: "Text of chapter 0.",
        createdAt: NOW,
      },
      {
        slug: "chapter-1",
        title: "Étude 🦀",
        kind: "tutorial",
        chapterIndex: 1,
        content: "Text of chapter 1.",
        createdAt: NOW,
      },
    ]);
  });

  test("is read in its own order, whatever it was staged in", async () => {
    const token = await running();
    const handed = await Promise.all(Array.from({ length: 12 }, (_, i) => handIn(i)));
    await stage(token, handed.toReversed());
    await complete(token, handed);
    const slugs = (await convex.docs(token.jobId)).map(({ slug }) => slug);
    expect(slugs).toEqual(handed.map(({ document }) => document.slug));
  });

  test("is told with what it took", async () => {
    const token = await running();
    const handed = [await handIn(0)];
    await stage(token, handed);
    const usage = { model: "opus", costUsd: 0.25, turns: 3, durationMs: 1500.5, inputTokens: 10 };
    await complete(token, handed, { commit: "0123abcd", usage });
    const job = await convex.job(token.jobId);
    expect(job).toMatchObject({ status: "completed", usage, resolvedCommit: "0123abcd" });
    expect(job.result).toEqual({ success: true, message: "done", data: "1 documents" });
    expect(job).toMatchObject({ completedAt: NOW, updatedAt: NOW, docsCount: 1, workerId: "w" });
    expect((await rowsOf("attempts"))[0]).toMatchObject({ outcome: "completed", endedAt: NOW });
  });

  test("is not lost to a figure that is out of its bounds: that is left out, or cut", async () => {
    const token = await running();
    const handed = [await handIn(0)];
    await stage(token, handed);
    const unsound = {
      costUsd: Number.POSITIVE_INFINITY,
      durationMs: Number.NaN,
      turns: -1,
      inputTokens: 0.5,
      cacheReadTokens: 2 ** 53,
    };
    const usage = { ...unsound, model: `a\n${"🦀".repeat(200)}`, outputTokens: 7 };
    expect(await complete(token, handed, { usage })).toMatchObject({ status: "completed" });
    const kept = { model: `a${"🦀".repeat(127)}`, outputTokens: 7 };
    expect((await convex.job(token.jobId)).usage).toEqual(kept);
  });

  test("of the same job again takes the place of the one before", async () => {
    const token = await running();
    const handed = await Promise.all(Array.from({ length: 220 }, (_, i) => handIn(i)));
    await stage(token, handed);
    await complete(token, handed);
    await convex.settle();
    const jobId = token.jobId as Id<"jobs">;
    const own = await convex.inside(async (ctx) => {
      const document = { jobId, slug: "own", title: "The application's", kind: "toc" as const };
      const fields = { ...document, chapterIndex: 0, content: "x", createdAt: NOW };
      await ctx.db.patch(jobId, { status: "pending" });
      return await ctx.db.insert("docs", fields);
    });
    const { token: next } = await convex.claim();
    const anew = [await handIn(0, { content: "anew" })];
    await stage(next, anew);
    await complete(next, anew);
    const shown = [{ slug: "own" }, { content: "anew" }];
    expect(await convex.docs(jobId)).toMatchObject(shown);
    await convex.settle();
    expect(await rowsOf("docs")).toMatchObject([{ _id: own }, { content: "anew", attempt: 2 }]);
  });

  test("is not touched by the cleaning after the one before", async () => {
    const token = await running();
    const content = "x".repeat(60 * KIB);
    const handed = await Promise.all(Array.from({ length: 60 }, (_, i) => handIn(i, { content })));
    await stage(token, handed);
    await complete(token, handed);
    const jobId = token.jobId as Id<"jobs">;
    await convex.inside(async (ctx) => await ctx.db.patch(jobId, { status: "pending" }));
    const { token: next } = await convex.claim();
    await stage(next, handed);
    await convex.settle();
    expect(await complete(next, handed)).toMatchObject({ docsCount: 60 });
  });

  test("is read where what it takes the place of is too large to be read as well", async () => {
    const token = await running();
    const jobId = token.jobId as Id<"jobs">;
    const fields = { jobId, slug: "s", title: "t", kind: "toc" as const, chapterIndex: 0 };
    const content = "x".repeat(900 * KIB);
    const insert = async (attempt: number) =>
      await convex.inside(async (ctx) => {
        for (let i = 0; i < 15; i += 1) {
          await ctx.db.insert("docs", { ...fields, content, attempt, createdAt: NOW });
        }
      });
    await insert(1);
    await insert(2);
    expect(await convex.docs(jobId)).toHaveLength(15);
  });

  test("that is handed in twice is saved once", async () => {
    const token = await running();
    const handed = [await handIn(0)];
    await stage(token, handed);
    const first = await complete(token, handed);
    expect(await complete(token, handed)).toEqual(first);
    await convex.pass(MINUTE);
    expect(await complete(token, handed)).toEqual({ ...first, now: NOW + MINUTE });
    expect(await convex.docs(token.jobId)).toHaveLength(1);
  });

  test("is offered first and told what is missing", async () => {
    const token = await running();
    const handed = [await handIn(0), await handIn(1), await handIn(2)];
    expect(await refusal(complete(token, handed))).toEqual({
      code: "not_staged",
      missing: [0, 1, 2],
    });
    await stage(token, [handed[0] as Handed, await handIn(2, { content: "another text" })]);
    expect(await refusal(complete(token, handed))).toMatchObject({ missing: [1, 2] });
    expect(await convex.job(token.jobId)).toMatchObject({ status: "claimed" });
    await stage(token, handed.slice(1));
    expect(await complete(token, handed)).toMatchObject({ docsCount: 3 });
  });

  test("is what complete names, not all that was staged", async () => {
    const token = await running();
    const handed = [await handIn(0), await handIn(1)];
    await stage(token, handed);
    await complete(token, handed.slice(0, 1));
    expect(await convex.docs(token.jobId)).toHaveLength(1);
  });

  test("never takes documents of another attempt", async () => {
    const token = await running();
    const handed = [await handIn(0)];
    await stage(token, handed);
    await convex.work("fail", { ...token, class: "rate_limited", message: "m", retryAt: NOW });
    const { token: next } = await convex.claim();
    await convex.work("heartbeat", { ...next, beat: 1 });
    expect(await refusal(complete(next, handed))).toMatchObject({ code: "not_staged" });
    await stage(next, handed);
    await complete(next, handed);
    expect(await convex.docs(token.jobId)).toHaveLength(1);
  });

  test("leaves nothing staged behind, of no attempt", async () => {
    const token = await running();
    await stage(token, [await handIn(0), await handIn(1)]);
    await convex.work("release", token);
    const { token: next } = await convex.claim();
    const handed = await Promise.all(Array.from({ length: 250 }, (_, i) => handIn(i)));
    await stage(next, handed);
    await complete(next, handed);
    await convex.settle();
    expect(await rowsOf("stagedDocs")).toEqual([]);
    expect(await convex.docs(token.jobId)).toHaveLength(250);
  });
});

describe("the largest result", () => {
  test("fits into one call, and so does its cleaning", async () => {
    const token = await running();
    const inline = { content: "x".repeat(64 * KIB) };
    const handed: Handed[] = [];
    let bytes = 0;
    for (let i = 0; i < 500; i += 1) {
      const text = `${i}`.padEnd(i < 64 ? 0 : 220 * KIB, "x");
      bytes += i < 64 ? inline.content.length : text.length;
      if (i < 64) handed.push(await handIn(i, inline));
      else {
        const sha256 = await sha256Hex(text);
        await convex.work("uploadUrl", { ...token, sha256 });
        const file = { storageId: await store(text), fileSha256: sha256 };
        handed.push(await handIn(i, { ...file, content: "é".repeat(8.5 * KIB) }));
      }
    }
    expect(bytes).toBeGreaterThan(100e6);
    for (let i = 0; i < 500; i += 50) await stage(token, handed.slice(i, i + 50));
    expect(await complete(token, handed)).toMatchObject({ docsCount: 500 });
    await convex.settle();
    expect(await rowsOf("stagedDocs")).toEqual([]);
    expect(await convex.docs(token.jobId)).toHaveLength(500);
  });

  test("is bounded: what is staged inline has at most 4 MiB together", async () => {
    const token = await running();
    const content = "x".repeat(64 * KIB);
    const handed = await Promise.all(Array.from({ length: 65 }, (_, i) => handIn(i, { content })));
    await stage(token, handed.slice(0, 64));
    const tooMuch = { code: "invalid", field: "docs" };
    expect(await refusal(stage(token, handed.slice(64)))).toMatchObject(tooMuch);
    await stage(token, handed.slice(0, 64));
    await stage(token, [await handIn(0, { content: "" })]);
    await stage(token, handed.slice(64));
  });
});

describe("a stored file", () => {
  /** A document of a file that was announced, uploaded, and staged. */
  async function fileOf(token: Token, text: string) {
    const fileSha256 = await sha256Hex(text);
    await convex.work("uploadUrl", { ...token, sha256: fileSha256 });
    return { storageId: await store(text), fileSha256, size: text.length, content: "a preview" };
  }

  test("is a document with a preview and the address of all of it", async () => {
    const token = await running();
    const handed = [await handIn(0, await fileOf(token, "the whole text"))];
    await stage(token, handed);
    await complete(token, handed);
    const [document] = await convex.docs(token.jobId);
    expect(document).toMatchObject({ content: "a preview", size: 14 });
    expect(document?.url).toMatch(/^https:/);
  });

  test("is announced once, and gets an address each time", async () => {
    const token = await running();
    const sha256 = await sha256Hex("text");
    const { url } = await convex.work("uploadUrl", { ...token, sha256 });
    expect(url).toMatch(/^https:/);
    expect((await convex.work("uploadUrl", { ...token, sha256 })).url).not.toBe(url);
    expect(await rowsOf("uploads")).toMatchObject([{ jobId: token.jobId, attempt: 1, sha256 }]);
  });

  test("is refused when it is no file, or was not announced by this attempt", async () => {
    const token = await running();
    const file = await fileOf(token, "text");
    const attempts = [
      { ...file, fileSha256: await sha256Hex("unknown") },
      { ...file, fileSha256: undefined },
      { ...file, fileSha256: file.fileSha256.toUpperCase() },
      { ...file, storageId: token.jobId },
      { ...file, storageId: undefined },
    ];
    for (const fields of attempts) {
      const { document } = await handIn(0, fields);
      const call = convex.work("stageDocs", { ...token, docs: [document] });
      expect(await refusal(call)).toMatchObject({ code: "invalid" });
    }
    await convex.work("release", token);
    const { token: next } = await convex.claim();
    expect(await refusal(stage(next, [await handIn(0, file)]))).toMatchObject({
      code: "invalid",
      field: "docs.fileSha256",
    });
  });

  test("that is gone has to be uploaded again", async () => {
    const token = await running();
    const file = await fileOf(token, "text");
    await convex.inside(async (ctx) => await ctx.storage.delete(file.storageId));
    const call = stage(token, [await handIn(3, file)]);
    expect(await refusal(call)).toEqual({ code: "not_staged", missing: [3] });
  });

  test("that was broken off has to be uploaded again", async () => {
    const token = await running();
    const file = await fileOf(token, "the whole text");
    const broken = { ...file, storageId: await store("the whole") };
    const call = stage(token, [await handIn(0), await handIn(1, broken)]);
    expect(await refusal(call)).toEqual({ code: "not_staged", missing: [1] });
    expect(await stage(token, [await handIn(1, file)])).toEqual({ staged: 1 });
  });

  test("that was there before it was announced is not taken, and not deleted", async () => {
    const theirs = await store("the application's");
    convex.skip(2 * MINUTE);
    const token = await running();
    const fileSha256 = await sha256Hex("the application's");
    await convex.work("uploadUrl", { ...token, sha256: fileSha256 });
    const call = stage(token, [await handIn(2, { storageId: theirs, fileSha256 })]);
    expect(await refusal(call)).toEqual({ code: "not_staged", missing: [2] });
    const own = await handIn(2, { storageId: await store("the application's"), fileSha256 });
    expect(await stage(token, [own])).toEqual({ staged: 1 });
  });
});

describe("a repository", () => {
  async function repository(): Promise<Id<"repositories">> {
    return await convex.inside(async (ctx) => {
      const user = { githubId: "1", username: "ada", createdAt: NOW };
      const userId = await ctx.db.insert("users", user);
      const names = { githubRepoId: "2", name: "engine", fullName: "ada/engine" };
      return await ctx.db.insert("repositories", { userId, ...names, defaultBranch: "main" });
    });
  }

  const currentOf = async (id: Id<"repositories">) =>
    await convex.inside(async (ctx) => (await ctx.db.get(id))?.currentJobId);

  /** The job done, with one stored and `documents` inline documents. */
  async function finish(token: Token, documents = 1) {
    const sha256 = await sha256Hex(token.jobId);
    await convex.work("uploadUrl", { ...token, sha256 });
    const file = { storageId: await store(token.jobId), fileSha256: sha256 };
    const inline = Array.from({ length: documents }, (_, i) => handIn(i + 1));
    const handed = [await handIn(0, file), ...(await Promise.all(inline))];
    await stage(token, handed);
    await complete(token, handed);
    await convex.settle();
  }

  const filesLeft = async () =>
    await convex.inside(async (ctx) => (await ctx.db.system.query("_storage").collect()).length);

  test.each([
    ["older", "newer"],
    ["newer", "older"],
  ] as const)(
    "ends with the newer job's documents where the %s completes first",
    async (...order) => {
      const repositoryId = await repository();
      const jobs = {
        older: await running({ repositoryId, cloneUrl: undefined }),
        newer: await running({ repositoryId, cloneUrl: undefined }),
      };
      for (const name of order) await finish(jobs[name]);
      expect(await currentOf(repositoryId)).toBe(jobs.newer.jobId);
      expect(await convex.docs(jobs.newer.jobId)).toHaveLength(2);
      expect(await convex.docs(jobs.older.jobId)).toEqual([]);
      expect(await filesLeft()).toBe(1);
    },
  );

  test("loses the documents and files of the jobs before, and nothing else", async () => {
    const repositoryId = await repository();
    const older = await running({ repositoryId, cloneUrl: undefined });
    await finish(older, 220);
    const kept = await convex.inside(async (ctx) => {
      const jobId = older.jobId as Id<"jobs">;
      const document = { jobId, repositoryId, slug: "s", title: "The application's" };
      const fields = { kind: "toc" as const, chapterIndex: 0, content: "x", createdAt: NOW };
      return await ctx.db.insert("docs", { ...document, ...fields });
    });
    const elsewhere = await running();
    await finish(elsewhere);
    const newer = await running({ repositoryId, cloneUrl: undefined });
    await finish(newer, 3);
    expect(await convex.inside(async (ctx) => await ctx.db.get(kept))).not.toBeNull();
    expect(await convex.docs(older.jobId)).toHaveLength(1);
    expect(await convex.docs(elsewhere.jobId)).toHaveLength(2);
    expect(await convex.docs(newer.jobId)).toHaveLength(4);
    expect(await filesLeft()).toBe(2);
  });

  test("keeps what it has until a later result is whole", async () => {
    const repositoryId = await repository();
    const older = await running({ repositoryId, cloneUrl: undefined });
    await finish(older);
    const newer = await running({ repositoryId, cloneUrl: undefined, maxAttempts: 1 });
    const handed = [await handIn(0), await handIn(1)];
    await stage(newer, handed);
    expect(await refusal(complete(newer, [...handed, await handIn(2)]))).toMatchObject({
      code: "not_staged",
    });
    await convex.work("fail", { ...newer, class: "crash", message: "m" });
    await convex.settle();
    expect(await currentOf(repositoryId)).toBe(older.jobId);
    expect(await convex.docs(older.jobId)).toHaveLength(2);
    expect(await convex.docs(newer.jobId)).toEqual([]);
  });

  test("may hold large documents of the application", async () => {
    const repositoryId = await repository();
    const older = await running({ repositoryId, cloneUrl: undefined });
    for (let i = 0; i < 20; i += 1) {
      await convex.inside(async (ctx) => {
        const document = { jobId: older.jobId as Id<"jobs">, repositoryId, slug: "s", title: "t" };
        const fields = { kind: "toc" as const, chapterIndex: 0, createdAt: NOW };
        await ctx.db.insert("docs", { ...document, ...fields, content: "x".repeat(900 * KIB) });
      });
    }
    await finish(older);
    const newer = await running({ repositoryId, cloneUrl: undefined });
    await finish(newer);
    expect(await filesLeft()).toBe(1);
  });

  test("that was deleted meanwhile does not cost the result", async () => {
    const repositoryId = await repository();
    const token = await running({ repositoryId, cloneUrl: undefined });
    await convex.inside(async (ctx) => await ctx.db.delete(repositoryId));
    await finish(token);
    expect(await convex.job(token.jobId)).toMatchObject({ status: "completed", docsCount: 2 });
  });
});

describe("documents out of bounds", () => {
  test.each([
    ["a negative index", { index: -1 }],
    ["an index of 500", { index: 500 }],
    ["half an index", { index: 0.5 }],
    ["no slug", { slug: "" }],
    ["a long slug", { slug: "s".repeat(257) }],
    ["a slug of two lines", { slug: "a\nb" }],
    ["no title", { title: "" }],
    ["a long title", { title: "é".repeat(513) }],
    ["a chapter index that is not whole", { chapterIndex: 1.5 }],
    ["a chapter index that is no number", { chapterIndex: Number.NaN }],
    ["a content over 64 KiB", { content: "x".repeat(64 * KIB + 1) }],
    ["a checksum without a file", { fileSha256: "0".repeat(64) }],
    ["a size below 0", { size: -1 }],
  ])("are refused: %s", async (_, fields) => {
    const token = await running();
    expect(await refusal(stage(token, [await handIn(0, fields)]))).toMatchObject({
      code: "invalid",
      field: expect.stringMatching(/^docs\./),
    });
  });

  test("are refused: none, and more than 500", async () => {
    const token = await running();
    const invalid = { code: "invalid" };
    expect(await refusal(stage(token, []))).toMatchObject({ ...invalid, field: "docs" });
    expect(await refusal(complete(token, []))).toMatchObject({ ...invalid, field: "digests" });
    const handed = await Promise.all(Array.from({ length: 501 }, (_, i) => handIn(i)));
    expect(await refusal(stage(token, handed))).toMatchObject({ ...invalid, field: "docs" });
    expect(await refusal(complete(token, handed))).toMatchObject({ ...invalid, field: "digests" });
  });

  test.each([
    ["digests", { digests: ["short"] }],
    ["commit", { commit: "main" }],
  ])("are refused by complete: %s", async (field, fields) => {
    const token = await running();
    const handed = [await handIn(0)];
    await stage(token, handed);
    const call = complete(token, handed, fields);
    expect(await refusal(call)).toMatchObject({ code: "invalid", field });
  });
});

test("a stranger cannot stage, announce or complete", async () => {
  const token = { ...(await running()), leaseToken: newToken() };
  const handed = [await handIn(0)];
  const superseded = { code: "lease_lost", reason: "superseded" };
  expect(await refusal(stage(token, handed))).toEqual(superseded);
  expect(await refusal(complete(token, handed))).toEqual(superseded);
  const sha256 = "0".repeat(64);
  expect(await refusal(convex.work("uploadUrl", { ...token, sha256 }))).toEqual(superseded);
  expect(await rowsOf("stagedDocs")).toEqual([]);
});
