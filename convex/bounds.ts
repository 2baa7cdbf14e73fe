/** The bounds of every argument, and the refusal of what is outside of them. */

import type { Infer } from "convex/values";
import { utf8Length } from "./digests";
import { environment } from "./environment";
import { invalid } from "./errors";
import type { runUsage } from "./fields";

type Usage = Infer<typeof runUsage>;

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const SECOND = 1_000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

export const DEFAULT_MAX_ATTEMPTS = 5;
export const MOST_DOCUMENTS = 500;
const MAX_TEXT_BYTES = 16 * KIB;
const MAX_NOTE_BYTES = KIB;

/** Refuse `value` unless it is a whole number from `least` to `most`. */
export function requireInteger(field: string, value: number, least: number, most: number): void {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw invalid(field, `must be a whole number from ${least} to ${most}`);
  }
}

/** Refuse `value` unless it is a number from `least` to `most`. */
export function requireNumber(field: string, value: number, least: number, most: number): void {
  // Written so that NaN, which compares false with everything, is refused as well.
  if (!(value >= least && value <= most)) {
    throw invalid(field, `must be a number from ${least} to ${most}`);
  }
}

/** Refuse a text that has not from `least` to `most` bytes in UTF-8. */
export function requireBytes(field: string, value: string, least: number, most: number): void {
  const bytes = utf8Length(value);
  if (bytes < least || bytes > most) {
    throw invalid(field, `must have from ${least} to ${most} bytes, not ${bytes}`);
  }
}

/** Refuse anything but one line of 1 to `most` characters without control characters. */
export function requireLine(field: string, value: string, most: number): void {
  if (value === "" || value.length > most || /\p{Cc}/u.test(value)) {
    throw invalid(field, `must be one line of 1 to ${most} characters`);
  }
}

/** Refuse anything that does not match `pattern`; `description` says what would. */
export function requireMatch(
  field: string,
  value: string,
  pattern: RegExp,
  description: string,
): void {
  if (!pattern.test(value)) throw invalid(field, `must be ${description}`);
}

/** Refuse anything but a lower-case hexadecimal SHA-256. */
export function requireSha256(field: string, value: string): void {
  requireMatch(field, value, /^[0-9a-f]{64}$/, "a SHA-256 in lower-case hexadecimal");
}

/** Refuse a list that has not from 1 to `most` entries. */
export function requireEntries(field: string, list: unknown[], most: number): void {
  if (list.length < 1 || list.length > most) {
    throw invalid(field, `must have from 1 to ${most} entries, not ${list.length}`);
  }
}

/** A message or an error, cut with a note when it is too long to keep. */
export function clippedText(text: string): string {
  return clipped(text, MAX_TEXT_BYTES);
}

/** The part of a message that is worth keeping with an attempt for good, or shown as progress. */
export function clippedNote(text: string): string {
  return clipped(text, MAX_NOTE_BYTES);
}

/** At most `most` bytes of `text` and a note that says so, or `text` itself when it fits. */
export function clipped(text: string, most: number): string {
  const bytes = utf8Length(text);
  if (bytes <= most) return text;
  // It stops before a character that does not fit as a whole.
  const { read } = new TextEncoder().encodeInto(text, new Uint8Array(most));
  return `${text.slice(0, read)}\n[cut: ${bytes} bytes]`;
}

/** What an operator says about a new job. */
export type NewJob = {
  prompt: string;
  repositoryId?: string;
  cloneUrl?: string;
  ref?: string;
  commit?: string;
  subdirectory?: string;
  priority?: number;
  runAt?: number;
  maxAttempts?: number;
  model?: string;
  timeoutMs?: number;
  userId?: string;
  dedupeKey?: string;
};

/** The bounds of `claim`. */
export function checkClaim(args: {
  workerId: string;
  instance: string;
  leaseToken: string;
  leaseMs: number;
}): void {
  requireLine("workerId", args.workerId, 128);
  requireLine("instance", args.instance, 256);
  requireMatch("leaseToken", args.leaseToken, /^[!-~]{16,128}$/, "16 to 128 visible characters");
  requireInteger("leaseMs", args.leaseMs, shortestLease(), HOUR);
}

/** 10 s, or what the deployment allows for tests, but never less than a second. */
function shortestLease(): number {
  const configured = Number(environment("FONDATION_MIN_LEASE_MS") || 10 * SECOND);
  return Math.max(Number.isFinite(configured) ? configured : 10 * SECOND, SECOND);
}

/** The bounds of `heartbeat`. */
export function checkHeartbeat(args: {
  beat: number;
  currentStep?: number;
  totalSteps?: number;
}): void {
  requireInteger("beat", args.beat, 1, Number.MAX_SAFE_INTEGER);
  if (args.currentStep !== undefined) requireInteger("currentStep", args.currentStep, 0, 1e6);
  if (args.totalSteps !== undefined) requireInteger("totalSteps", args.totalSteps, 0, 1e6);
}

/** The bounds of `fail`. */
export function checkFailure(args: { class: string; retryAt?: number }): void {
  const name = /^[a-z][a-z0-9_]{0,63}$/;
  requireMatch("class", args.class, name, "a name of small letters, digits and underscores");
  const { retryAt } = args;
  if (retryAt !== undefined) requireNumber("retryAt", retryAt, 0, Number.MAX_SAFE_INTEGER);
}

/** The bounds of `complete`. */
export function checkCompletion({ digests, commit }: { digests: string[]; commit?: string }): void {
  requireEntries("digests", digests, MOST_DOCUMENTS);
  for (const digest of digests) requireSha256("digests", digest);
  if (commit !== undefined) {
    requireMatch("commit", commit, /^[0-9a-f]{7,64}$/i, "7 to 64 hexadecimal digits");
  }
}

/** What of `usage` is within its bounds: a figure must never cost the result that it belongs to. */
export function soundUsage({ model = "", costUsd, durationMs, ...counts }: Usage): Usage {
  const sound = Object.entries(counts).filter(([, count]) => Number.isInteger(within(count)));
  return {
    ...Object.fromEntries(sound),
    // Cut by characters: half of one could not be stored.
    model: [...model.replaceAll(/\p{Cc}/gu, "")].slice(0, 128).join("") || undefined,
    costUsd: within(costUsd, 1e6),
    durationMs: within(durationMs, 7 * DAY),
  };
}

function within(value: number | undefined, most = Number.MAX_SAFE_INTEGER): number | undefined {
  return value !== undefined && value >= 0 && value <= most ? value : undefined;
}

/** The bounds of `enqueue`: it refuses what a worker would only fail. */
export function checkJob(job: NewJob, now: number): void {
  requireBytes("prompt", job.prompt, 1, 200 * KIB);
  if (job.cloneUrl !== undefined) requireCloneUrl(job.cloneUrl);
  if (job.ref !== undefined) requireRef(job.ref);
  if (job.commit !== undefined) requireFullCommit(job.commit);
  if (job.subdirectory !== undefined) requireSubdirectory(job.subdirectory);
  if (job.priority !== undefined) requireInteger("priority", job.priority, -10, 10);
  if (job.runAt !== undefined) requireNumber("runAt", job.runAt, 0, now + 365 * DAY);
  if (job.maxAttempts !== undefined) requireInteger("maxAttempts", job.maxAttempts, 1, 20);
  if (job.model !== undefined) requireLine("model", job.model, 128);
  if (job.timeoutMs !== undefined) requireInteger("timeoutMs", job.timeoutMs, MINUTE, 6 * HOUR);
  if (job.dedupeKey !== undefined) requireBytes("dedupeKey", job.dedupeKey, 1, 256);
}

/** `https` without user, control characters or another port; `file` is for the worker to judge. */
function requireCloneUrl(url: string): void {
  requireLine("cloneUrl", url, 2048);
  const known = /^(https:\/\/[^\s/@:\\?#[\]%"<>]+(:443)?\/[^\s\\]+|file:\/\/\/\S*)$/;
  requireMatch("cloneUrl", url, known, "https://HOST/PATH without a user, or file:///PATH");
  // Git decodes them, and then takes a part of the URL for a line of its own.
  if (/%([01][0-9a-f]|7f)/i.test(url)) {
    throw invalid("cloneUrl", "must be without control characters, encoded ones included");
  }
}

/** A branch or a tag, by the rules of git. */
function requireRef(ref: string): void {
  requireLine("ref", ref, 256);
  const isMisnamed = ref === "@" || ref.startsWith("-") || /[ ~^:?*[\\]|\.\.|@\{/.test(ref);
  const isMisplaced = ref.split("/").some((part) => /^$|^\.|\.lock$/.test(part));
  if (isMisnamed || isMisplaced || ref.endsWith(".")) {
    throw invalid("ref", "must be the name of a branch or a tag");
  }
}

/** A commit as git names it: an abbreviated one cannot be fetched. */
function requireFullCommit(commit: string): void {
  const full = /^([0-9a-f]{40}|[0-9a-f]{64})$/;
  requireMatch("commit", commit, full, "a full commit id in lower-case hexadecimal");
}

/** A relative path that stays inside of the repository. */
function requireSubdirectory(path: string): void {
  requireLine("subdirectory", path, 1024);
  const parts = path.replace(/\/+$/, "").split(/[/\\]/);
  if (parts.some((part) => ["", ".", "..", ".git"].includes(part))) {
    throw invalid("subdirectory", "must be a path inside of the repository");
  }
}
