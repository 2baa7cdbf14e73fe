/**
 * The verdict table and the times of the protocol, written down a second time.
 *
 * Deliberately not imported from the functions: what is compared must not be the same code.
 */

export const SECOND = 1_000;
export const MINUTE = 60 * SECOND;

export const FIRST_LEASE = 30 * SECOND;
export const OUTAGE_GAP = 150 * SECOND;
export const OUTAGE_HOLD = 2 * MINUTE;
export const LONGEST_HOLD = 4 * MINUTE;

/** The times that a search may set otherwise, so that fewer worlds differ in nothing but times. */
export type Times = {
  /** How long a job whose result was announced is kept for its owner. */
  grace: number;
  /** How long a job waits that failed for the first time. */
  delay: number;
};
export const TIMES: Times = { grace: 10 * MINUTE, delay: 5 * SECOND };

/** One class of each kind. */
export const CLASSES = { final: "invalid_job", snoozed: "rate_limited", retried: "claude_failed" };
export type Kind = keyof typeof CLASSES;
export const KINDS = Object.keys(CLASSES) as Kind[];

export type Standing = { spent: number; maxAttempts: number; wasSpent: boolean };
export type Expected = { status: "pending" | "dead"; spent: number; delay: number };

/** What a failure does to a job. `delay` is without the random part. */
export function afterFailure(kind: Kind, standing: Standing, first: number): Expected {
  const { spent, maxAttempts, wasSpent } = standing;
  const delay = Math.min(first * 2 ** Math.max(spent - 1, 0), 10 * MINUTE);
  if (kind === "final") return { status: "dead", spent, delay: 0 };
  if (kind === "snoozed") return { status: "pending", spent: wasSpent ? spent - 1 : spent, delay };
  if (wasSpent && spent >= maxAttempts) return { status: "dead", spent, delay: 0 };
  return { status: "pending", spent, delay };
}

/** What a release does to a job. */
export function afterRelease({ spent, wasSpent }: Standing): Expected {
  return { status: "pending", spent: wasSpent ? spent - 1 : spent, delay: 0 };
}

/** What the end of a lease does to a job. */
export function afterExpiry({ spent, maxAttempts, wasSpent }: Standing): Expected {
  const dies = wasSpent && spent >= maxAttempts;
  return { status: dies ? "dead" : "pending", spent, delay: 0 };
}
