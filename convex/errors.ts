/**
 * What a caller can be told apart by: `ConvexError({ code, … })`.
 *
 * A production deployment hides the text of any other error, so a caller takes every other
 * failure for "outcome unknown" and asks again with the same arguments.
 */

import { ConvexError } from "convex/values";

/** Why a job is not the caller's any more. */
export type LostReason = "expired" | "superseded" | "canceled" | "settled" | "completed" | "gone";

/** The key is missing or wrong. */
export function unauthorized() {
  return new ConvexError({ code: "unauthorized" });
}

/** The argument `field` is out of its bounds. */
export function invalid(field: string, message: string) {
  return new ConvexError({ code: "invalid", field, message });
}

/** The job is not the caller's any more. */
export function leaseLost(reason: LostReason) {
  return new ConvexError({ code: "lease_lost", reason });
}

/** The token that is stored for a user cannot open anything; `message` is for that user. */
export function tokenUnusable(message: string) {
  return new ConvexError({ code: "token_unusable", message });
}

/** The documents with these indexes must be staged (again). */
export function notStaged(missing: number[]) {
  return new ConvexError({ code: "not_staged", missing });
}
