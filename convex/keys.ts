/**
 * Keys of workers and operators.
 *
 * The deployment stores only SHA-256 digests of them, in an environment variable. Several digests
 * may stand there at once, separated by commas or blanks, so that a key can be rotated.
 */

import { sha256Hex } from "./digests";
import { environment } from "./environment";
import { unauthorized } from "./errors";

const DIGESTS_OF = {
  workerKey: "FONDATION_WORKER_KEY_SHA256",
  operatorKey: "FONDATION_OPERATOR_KEY_SHA256",
} as const;

/** The argument that carries the key, and so says whose it is. */
export type KeyName = keyof typeof DIGESTS_OF;

/** Refuse a caller whose key is none of those that the deployment knows. */
export async function requireKey(name: KeyName, key: string | undefined): Promise<void> {
  if (!key) throw unauthorized();
  const digest = await sha256Hex(key);
  const known = digestsIn(environment(DIGESTS_OF[name]));
  // Every digest is compared, whichever matches: the time tells nothing.
  const matches = known.filter((candidate) => equalInConstantTime(candidate, digest));
  if (matches.length === 0) throw unauthorized();
}

function digestsIn(value = ""): string[] {
  const words = value.toLowerCase().split(/[\s,]+/);
  return words.filter((word) => /^[0-9a-f]{64}$/.test(word));
}

function equalInConstantTime(one: string, other: string): boolean {
  let difference = one.length ^ other.length;
  for (let i = 0; i < one.length; i += 1) difference |= one.charCodeAt(i) ^ other.charCodeAt(i);
  return difference === 0;
}
