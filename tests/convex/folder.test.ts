/** The functions as a folder of an application: `convex/fondation/`. */

import { cp, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cronJobs } from "convex/server";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import crons, { addFondationCrons } from "../../convex/crons";
import { deploy, handIn, MINUTE } from "./deployment";

const project = fileURLToPath(new URL("../..", import.meta.url));

let application: string;
beforeEach(async () => {
  application = await mkdtemp(join(tmpdir(), "application-"));
  await symlink(join(project, "node_modules"), join(application, "node_modules"));
  const copy = join(application, "convex/fondation");
  await cp(join(project, "convex"), copy, { recursive: true });
  const constant = join(copy, "folder.ts");
  const text = await readFile(constant, "utf8");
  await writeFile(constant, text.replace('folder = ""', 'folder = "fondation/"'));
});
afterEach(async () => {
  vi.useRealTimers();
  await rm(application, { recursive: true });
});

/** The modules of the application, by path, as the engine wants them. */
async function modulesOfApplication() {
  const modules: Record<string, () => Promise<unknown>> = {
    "/convex/_generated/api.js": async () => ({}),
  };
  for (const name of await readdir(join(application, "convex/fondation"))) {
    const path = join(application, "convex/fondation", name);
    modules[`/convex/fondation/${name}`] = async () => await import(/* @vite-ignore */ path);
  }
  return modules;
}

test("a job runs through the copied folder, expiry and cleaning included", async () => {
  const convex = await deploy({ modules: await modulesOfApplication(), folder: "fondation/" });
  const jobId = await convex.enqueue();
  const expired = (await convex.claim()).token;
  await convex.work("heartbeat", { ...expired, beat: 1 });
  await convex.pass(5 * MINUTE);
  expect(await convex.job(jobId)).toMatchObject({ status: "pending", attempts: 1 });
  const { token } = await convex.claim();
  await convex.work("heartbeat", { ...token, beat: 1 });
  const { document, digest } = await handIn(0);
  await convex.work("stageDocs", { ...token, docs: [document] });
  await convex.work("complete", { ...token, digests: [digest], message: "done" });
  await convex.settle();
  expect(await convex.docs(jobId)).toHaveLength(1);
  const staged = await convex.inside(async (ctx) => await ctx.db.query("stagedDocs").collect());
  expect(staged).toEqual([]);
});

test("its crons are added to the application's own", async () => {
  const path = join(application, "convex/fondation/crons.ts");
  const copied = (await import(/* @vite-ignore */ path)) as typeof import("../../convex/crons");
  const own = cronJobs();
  copied.addFondationCrons(own);
  const named = Object.values(own.crons).map(({ name }) => name);
  expect(named).toEqual(["fondation/upkeep:sweep", "fondation/upkeep:beat"]);
});

test("the crons of a deployment of its own are the same, each minute", () => {
  const own = cronJobs();
  addFondationCrons(own);
  expect(own.crons).toEqual(crons.crons);
  expect(Object.values(crons.crons)).toMatchObject([
    { name: "upkeep:sweep", schedule: { type: "interval", minutes: 1 } },
    { name: "upkeep:beat", schedule: { type: "interval", minutes: 1 } },
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
