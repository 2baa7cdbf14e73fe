/** Whose token a worker gets for a private repository, and for which hosts. */

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Id } from "../../convex/server";
import { type Deployment, deploy, MINUTE, NOW, newToken, refusal, type Token } from "./deployment";

const OWN = "gho_ofAda";
const GENERAL = "ghp_ofTheDeployment";
const VARIABLES = ["GITHUB_TOKEN", "GITHUB_TOKEN_FOR_ALL", "GITHUB_HOSTS"];

let convex: Deployment;
beforeEach(async () => {
  convex = await deploy();
});
afterEach(() => {
  for (const name of VARIABLES) delete process.env[name];
  vi.useRealTimers();
});

async function user(githubAccessToken?: string): Promise<Id<"users">> {
  const row = { githubId: "1", username: "ada", githubAccessToken, createdAt: NOW };
  return await convex.inside(async (ctx) => await ctx.db.insert("users", row));
}

async function repositoryOf(userId: Id<"users">): Promise<Id<"repositories">> {
  const row = { userId, githubRepoId: "2", name: "engine", fullName: "ada/engine" };
  const fields = { ...row, defaultBranch: "main" };
  return await convex.inside(async (ctx) => await ctx.db.insert("repositories", fields));
}

async function running(job: Record<string, unknown>): Promise<Token> {
  await convex.enqueue({ cloneUrl: "https://github.com/ada/engine.git", ...job });
  const { token } = await convex.claim();
  await convex.work("heartbeat", { ...token, beat: 1 });
  return token;
}

/** What the worker of such a job gets. */
const tokenFor = async (job: Record<string, unknown>) =>
  (await convex.work("cloneToken", await running(job))).token;

describe("a job of a user", () => {
  test("gets the token of that user, named by itself or as the repository's owner", async () => {
    process.env.GITHUB_TOKEN = GENERAL;
    const userId = await user(OWN);
    const token = await running({ userId });
    expect(await convex.work("cloneToken", token)).toEqual({ token: OWN, now: NOW });
    const repositoryId = await repositoryOf(userId);
    expect(await tokenFor({ repositoryId, cloneUrl: undefined })).toBe(OWN);
    const other = await user("gho_ofBob");
    expect(await tokenFor({ repositoryId, cloneUrl: undefined, userId: other })).toBe("gho_ofBob");
  });

  test("gets the deployment's only where that serves all", async () => {
    process.env.GITHUB_TOKEN = GENERAL;
    const without = [await user(), await user(""), await user(" ")];
    const deleted = await user(OWN);
    for (const userId of without) expect(await tokenFor({ userId })).toBeNull();
    const orphan = await running({ userId: deleted });
    await convex.inside(async (ctx) => await ctx.db.delete(deleted));
    expect((await convex.work("cloneToken", orphan)).token).toBeNull();
    process.env.GITHUB_TOKEN_FOR_ALL = "1";
    for (const userId of without) expect(await tokenFor({ userId })).toBe(GENERAL);
    expect(await tokenFor({ userId: await user(OWN) })).toBe(OWN);
    process.env.GITHUB_TOKEN_FOR_ALL = "0";
    expect(await tokenFor({ userId: without[0] })).toBeNull();
  });

  test("is a row of a front end that names no user but a repository", async () => {
    process.env.GITHUB_TOKEN = GENERAL;
    const repositoryId = await repositoryOf(await user());
    const row = { repositoryId, status: "pending" as const, prompt: "p", createdAt: NOW };
    await convex.inside(async (ctx) => await ctx.db.insert("jobs", row));
    const { token } = await convex.claim();
    expect((await convex.work("cloneToken", token)).token).toBeNull();
  });

  test.each([
    ["obf_Z2hvX29mQWRh", "Sign in"],
    ["enc_v1_00:11:22", "Sign in"],
    ["gho_of\nAda", "damaged"],
    ["gho of Ada", "damaged"],
  ])("is told in words that the stored %j cannot be used", async (stored, words) => {
    process.env.GITHUB_TOKEN = GENERAL;
    process.env.GITHUB_TOKEN_FOR_ALL = "1";
    const token = await running({ userId: await user(stored) });
    const refused = await refusal(convex.work("cloneToken", token));
    const message = expect.stringContaining(words);
    expect(refused).toEqual({ code: "token_unusable", message });
    expect(refused.message).not.toContain(stored.slice(4));
  });
});

describe("a job of nobody", () => {
  test("gets the deployment's token, or null", async () => {
    expect(await tokenFor({})).toBeNull();
    process.env.GITHUB_TOKEN = ` ${GENERAL}\n`;
    expect(await tokenFor({})).toBe(GENERAL);
  });

  test("is told when the deployment's variable is no token", async () => {
    process.env.GITHUB_TOKEN = "two words";
    const refused = await refusal(convex.work("cloneToken", await running({})));
    const message = expect.stringContaining("GITHUB_TOKEN");
    expect(refused).toEqual({ code: "token_unusable", message });
  });
});

describe("a host", () => {
  test.each([
    ["https://github.com/ada/engine", OWN],
    ["https://GitHub.com/ada/engine", OWN],
    ["https://github.com:443/ada/engine", OWN],
    ["https://gist.github.com/ada/engine", null],
    ["https://github.com.example.org/ada/engine", null],
    ["https://github.com./ada/engine", null],
    ["https://notgithub.com/ada/engine", null],
    ["https://example.org/github.com/engine", null],
    ["file:///github.com/engine", null],
    ["https://git.example.org/ada/engine", OWN, "git.example.org, other.example.org"],
    ["https://OTHER.example.org/ada/engine", OWN, "git.example.org\nOther.Example.org"],
    ["https://example.org/ada/engine", null, "git.example.org"],
    ["https://github.com/ada/engine", OWN, "git.example.org"],
    ["file:///srv/engine", null, ", ,"],
  ])("gets a token or none: %s → %s, beside %j", async (cloneUrl, expected, hosts = "") => {
    process.env.GITHUB_TOKEN = OWN;
    process.env.GITHUB_HOSTS = hosts;
    expect(await tokenFor({ cloneUrl })).toBe(expected);
  });

  test.each<[string, string | null, string?]>([
    ["https://github.com:8443/ada/engine", null],
    ["https://ada@github.com/ada/engine", OWN],
    ["http://github.com/ada/engine", null],
    ["ssh://git@github.com/ada/engine", null],
    ["nonsense", null],
    ["https://github.com:8443/ada/engine", OWN, "github.com:8443"],
  ])(
    "that a front end's row names gets one or none: %s → %s",
    async (cloneUrl, expected, hosts) => {
      process.env.GITHUB_TOKEN = OWN;
      process.env.GITHUB_HOSTS = hosts;
      const row = { cloneUrl, status: "pending" as const, prompt: "p", createdAt: NOW };
      await convex.inside(async (ctx) => await ctx.db.insert("jobs", row));
      const { token } = await convex.claim();
      expect((await convex.work("cloneToken", token)).token).toBe(expected);
    },
  );
});

test("only who holds a lease that runs gets a token", async () => {
  process.env.GITHUB_TOKEN = GENERAL;
  const token = await running({});
  const lost = (reason: string) => ({ code: "lease_lost", reason });
  const stranger = convex.work("cloneToken", { ...token, leaseToken: newToken() });
  expect(await refusal(stranger)).toEqual(lost("superseded"));
  await convex.pass(5 * MINUTE);
  expect(await refusal(convex.work("cloneToken", token))).toEqual(lost("expired"));
});

test("a repository that went away under the lease has none", async () => {
  process.env.GITHUB_TOKEN = GENERAL;
  const userId = await user(OWN);
  const repositoryId = await repositoryOf(userId);
  const token = await running({ repositoryId, cloneUrl: undefined });
  await convex.inside(async (ctx) => await ctx.db.delete(repositoryId));
  expect((await convex.work("cloneToken", token)).token).toBeNull();
});
