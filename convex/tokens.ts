/** What opens a private repository: whose token a job may use, and for which hosts. */

import { environment } from "./environment";
import { tokenUnusable } from "./errors";
import type { Doc, QueryCtx } from "./server";
import { sourceOf } from "./sources";

/** How the earlier Node worker's front ends stored tokens: to hide them, or encrypted by a key. */
const OLD_FORM = /^(obf_|enc_v1_)/;
const OLD_FORM_MESSAGE =
  "The access to GitHub is stored in a form that is no longer used. Sign in with GitHub again, then retry the job.";
const MALFORMED_MESSAGE =
  "The stored access token for GitHub is damaged. Sign in with GitHub again, then retry the job.";
const MISCONFIGURED_MESSAGE =
  "GITHUB_TOKEN, a variable of the deployment, is not a token: an operator has to set it again.";

/** The token for the repository of `job`, or null where there is none or its host gets none. */
export async function cloneTokenFor(ctx: QueryCtx, job: Doc<"jobs">): Promise<string | null> {
  const source = await sourceOf(ctx, job);
  if ("fault" in source || !isTrusted(source.cloneUrl)) return null;
  const user = await userOf(ctx, job);
  const own = user && storedToken(user);
  if (own) return own;
  return user === null || environment("GITHUB_TOKEN_FOR_ALL") === "1" ? deploymentToken() : null;
}

/** Whether a GitHub token may be shown to the host of this URL. */
function isTrusted(cloneUrl: string): boolean {
  if (!URL.canParse(cloneUrl)) return false;
  const { protocol, host } = new URL(cloneUrl);
  const others = (environment("GITHUB_HOSTS") ?? "").toLowerCase().split(/[\s,]+/);
  return protocol === "https:" && ["github.com", ...others].includes(host);
}

/** Whose job it is; the owner of its repository where a front end did not say. Null for nobody. */
async function userOf(ctx: QueryCtx, job: Doc<"jobs">): Promise<Partial<Doc<"users">> | null> {
  const repository = job.repositoryId && (await ctx.db.get(job.repositoryId));
  const userId = job.userId ?? repository?.userId;
  if (userId === undefined) return null;
  // A user who was deleted is somebody all the same: the deployment's token is not for that job.
  return (await ctx.db.get(userId)) ?? {};
}

/** The token in a row that may be the application's own; refuses one that cannot be used. */
function storedToken({ githubAccessToken: token }: Partial<Doc<"users">>): string | null {
  if (typeof token !== "string" || token.trim() === "") return null;
  if (OLD_FORM.test(token.trim())) throw tokenUnusable(OLD_FORM_MESSAGE);
  return visible(token.trim(), MALFORMED_MESSAGE);
}

function deploymentToken(): string | null {
  const token = environment("GITHUB_TOKEN")?.trim();
  return token ? visible(token, MISCONFIGURED_MESSAGE) : null;
}

/** `token`, which must be nothing but visible characters: it becomes a line of git's protocol. */
function visible(token: string, otherwise: string): string {
  if (!/^[!-~]{1,1024}$/.test(token)) throw tokenUnusable(otherwise);
  return token;
}
