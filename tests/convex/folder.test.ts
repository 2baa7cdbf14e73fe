/** The functions as a folder of an application, `convex/fondation/`, as the README says. */

import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { type Crons, cronJobs, makeFunctionReference } from "convex/server";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import crons, { addFondationCrons } from "../../convex/crons";
import type { Id } from "../../convex/server";
import { Application, project } from "./application";
import { type Deployment, deploy, handIn, MINUTE, NOW, OPERATOR_KEY, refusal } from "./deployment";

let application: Application;
beforeEach(async () => {
  application = await Application.create();
});
afterEach(async () => {
  delete process.env.FONDATION_OPERATOR_KEY;
  vi.restoreAllMocks();
  vi.useRealTimers();
  await application.remove();
});

/** The application, deployed with its schema as it is now. */
async function deployed(): Promise<Deployment> {
  const [modules, schema] = [await application.modules(), await application.schema()];
  return await deploy({ modules, schema, folder: "fondation/" });
}

/** Claim the next job and hand in one document. */
async function complete(convex: Deployment): Promise<string> {
  const { token } = await convex.claim();
  await convex.work("heartbeat", { ...token, beat: 1 });
  const { document, digest } = await handIn(0);
  await convex.work("stageDocs", { ...token, docs: [document] });
  await convex.work("complete", { ...token, digests: [digest], message: "done" });
  await convex.settle();
  return token.jobId;
}

/** A row of `repositories`, with what the application itself adds to it and to its user. */
async function repository(convex: Deployment, own: { user: object; repository: object }) {
  return await convex.inside(async (ctx) => {
    const user = { githubId: "1", username: "ada", createdAt: NOW, ...own.user };
    const userId = await ctx.db.insert("users", user);
    const names = { githubRepoId: "2", name: "engine", fullName: "ada/engine" };
    const fields = { userId, ...names, defaultBranch: "main", ...own.repository };
    return await ctx.db.insert("repositories", fields);
  });
}

const rowOf = async (convex: Deployment, id: Id<"repositories">) =>
  await convex.inside(async (ctx) => await ctx.db.get(id));

describe("an application that had no tables and no crons", () => {
  beforeEach(async () => {
    await application.follow("convex/schema.ts");
    await application.follow("convex/crons.ts");
  });

  test("runs jobs, expiry and cleaning included", async () => {
    const convex = await deployed();
    const jobId = await convex.enqueue();
    const expired = (await convex.claim()).token;
    await convex.work("heartbeat", { ...expired, beat: 1 });
    await convex.pass(5 * MINUTE);
    expect(await convex.job(jobId)).toMatchObject({ status: "pending", attempts: 1 });
    await complete(convex);
    expect(await convex.docs(jobId)).toHaveLength(1);
    const staged = await convex.inside(async (ctx) => await ctx.db.query("stagedDocs").collect());
    expect(staged).toEqual([]);
  });

  test("has the crons", async () => {
    const { default: added } = await application.load<{ default: Crons }>("crons.ts");
    expect(Object.values(added.crons)).toMatchObject([
      { name: "fondation/upkeep:sweep", schedule: { type: "interval", minutes: 1 } },
      { name: "fondation/upkeep:beat", schedule: { type: "interval", minutes: 1 } },
      { name: "fondation/upkeep:retention", schedule: { type: "interval", hours: 1 } },
    ]);
  });

  test("enqueues and reads for users who are signed in", async () => {
    await application.follow("convex/analyses.ts");
    await application.generate();
    process.env.FONDATION_OPERATOR_KEY = OPERATOR_KEY;
    const convex = await deployed();
    const [start, read] = [
      makeFunctionReference<"mutation">("analyses:start"),
      makeFunctionReference<"query">("analyses:read"),
    ];
    const asked = { cloneUrl: "https://example.org/a.git" };
    await expect(convex.engine.mutation(start, asked)).rejects.toThrow("not signed in");
    const visitor = convex.engine.withIdentity({ subject: "ada" });
    const jobId = await visitor.mutation(start, asked);
    expect(await visitor.query(read, { jobId })).toEqual({ status: "pending", docs: [] });
    expect(await complete(convex)).toBe(jobId);
    const docs = [{ title: "Chapter 0", content: "Text of chapter 0." }];
    expect(await visitor.query(read, { jobId })).toMatchObject({ status: "completed", docs });
  });

  test("passes the check of types of a deploy, without the types of Node", async () => {
    await application.follow("convex/analyses.ts");
    await application.generate();
    await checkTypes();
  });
});

describe("an application with tables of the same names", () => {
  test("extends ours", async () => {
    await application.follow("convex/schema.ts with tables that you extend");
    await application.generate();
    await checkTypes();
    const convex = await deployed();
    const own = { user: { plan: "free" }, repository: { starred: true } };
    const repositoryId = await repository(convex, own);
    const older = await convex.enqueue({ repositoryId, cloneUrl: undefined });
    const newer = await convex.enqueue({ repositoryId, cloneUrl: undefined });
    expect([await complete(convex), await complete(convex)]).toEqual([older, newer]);
    const row = await rowOf(convex, repositoryId);
    expect(row).toMatchObject({ starred: true, currentJobId: newer });
    expect(await convex.docs(older)).toEqual([]);
  });

  test("that lack our fields loses no result to that, and says so", async () => {
    await application.write(
      "convex/schema.ts",
      `import { defineSchema, defineTable } from "convex/server";
       import { v } from "convex/values";
       import { fondationFields } from "./fondation/fields";
       import { fondationTables } from "./fondation/tables";

       const { currentJobId, ...repository } = fondationFields.repositories;
       export default defineSchema({ ...fondationTables, repositories: defineTable(repository) });`,
    );
    const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
    const convex = await deployed();
    const repositoryId = await repository(convex, { user: {}, repository: {} });
    const jobId = await convex.enqueue({ repositoryId, cloneUrl: undefined });
    await complete(convex);
    expect(await convex.job(jobId)).toMatchObject({ status: "completed", docsCount: 1 });
    expect(await convex.docs(jobId)).toHaveLength(1);
    expect(warn.mock.calls).toMatchObject([[expect.stringMatching(/currentJobId/)]]);
  });

  test("keeps tables of another kind, and names repositories by their URL", async () => {
    await application.write(
      "convex/schema.ts",
      `import { defineSchema, defineTable } from "convex/server";
       import { v } from "convex/values";
       import { fondationTables } from "./fondation/tables";

       const users = defineTable({ email: v.string() });
       const repositories = defineTable({ url: v.string() });
       export default defineSchema({ ...fondationTables, users, repositories });`,
    );
    const convex = await deployed();
    const { userId, repositoryId } = await convex.inside(async (ctx) => ({
      userId: await ctx.db.insert("users", { email: "ada@example.org" } as never),
      repositoryId: await ctx.db.insert("repositories", { url: "https://e.org/a" } as never),
    }));
    const jobId = await convex.enqueue({ userId });
    expect(await complete(convex)).toBe(jobId);
    const call = convex.enqueue({ repositoryId, cloneUrl: undefined });
    expect(await refusal(call)).toMatchObject({ code: "invalid", field: "repositoryId" });
  });
});

/** Check types as `npx convex deploy` does, by what its template says of a folder of functions. */
async function checkTypes(): Promise<void> {
  const compilerOptions = {
    allowJs: true,
    strict: true,
    moduleResolution: "Bundler",
    jsx: "react-jsx",
    skipLibCheck: true,
    allowSyntheticDefaultImports: true,
    target: "ESNext",
    lib: ["ES2023", "dom"],
    forceConsistentCasingInFileNames: true,
    module: "ESNext",
    isolatedModules: true,
    noEmit: true,
    types: [],
  };
  const config = { compilerOptions, include: ["./**/*"], exclude: ["./_generated"] };
  await application.write("convex/tsconfig.json", JSON.stringify(config));
  const compiler = join(project, "node_modules/typescript/bin/tsc");
  const { directory: cwd } = application;
  await promisify(execFile)(process.execPath, [compiler, "-p", "convex"], { cwd }).catch(
    ({ stdout, message }) => expect.fail(stdout || message),
  );
}

test("the crons of a deployment of its own are those of an application", () => {
  const own = cronJobs();
  addFondationCrons(own);
  expect(own.crons).toEqual(crons.crons);
  expect(Object.values(crons.crons)).toMatchObject([
    { name: "upkeep:sweep", schedule: { type: "interval", minutes: 1 } },
    { name: "upkeep:beat", schedule: { type: "interval", minutes: 1 } },
    { name: "upkeep:retention", schedule: { type: "interval", hours: 1 } },
  ]);
});

test("nothing imports generated code", async () => {
  for (const name of await readdir(join(project, "convex"))) {
    if (!name.endsWith(".ts")) continue;
    const text = await readFile(join(project, "convex", name), "utf8");
    const imports = [...text.matchAll(/from "([^"]+)"/g)].map(([, path]) => path);
    for (const path of imports) expect(path, name).toMatch(/^(convex\/(server|values)|\.\/\w+)$/);
  }
});
