/** What becomes of a job, decided without a deployment. */

import { describe, expect, test } from "vitest";
import { afterExpiry, afterFailure, afterReturn, type Standing } from "../../convex/verdicts";
import { DAY, HOUR, MINUTE, NOW, SECOND } from "./deployment";

const standing = (fields: Partial<Standing> = {}): Standing => ({
  attempts: 1,
  maxAttempts: 5,
  spent: true,
  returns: 0,
  firstClaimedAt: NOW,
  ...fields,
});

const waits = (verdict: ReturnType<typeof afterReturn>) =>
  verdict.status === "pending" ? verdict.runAt - NOW : verdict.status;

describe("a failure", () => {
  test.each([
    "repository_missing",
    "ref_missing",
    "repository_empty",
    "invalid_job",
    "too_large",
    "token_unusable",
  ])("of class %s is final", (name) => {
    const verdict = afterFailure(standing(), { class: name, retryAt: NOW }, NOW, 0);
    expect(verdict).toEqual({ status: "dead", attempts: 1, returns: 0, gaveUpWaiting: false });
  });

  test("without a result is tried once more, not twice in a row", () => {
    const waitAfter = (lastClass?: string) =>
      waits(afterFailure(standing({ attempts: 2, lastClass }), { class: "no_result" }, NOW, 0));
    expect(waitAfter()).toBe(10 * SECOND);
    expect(waitAfter("timeout")).toBe(10 * SECOND);
    expect(waitAfter("no_result")).toBe("dead");
  });

  test("of another class may come twice in a row", () => {
    const twice = standing({ attempts: 2, lastClass: "timeout" });
    expect(waits(afterFailure(twice, { class: "timeout" }, NOW, 0))).toBe(10 * SECOND);
  });

  test.each(["rate_limited", "overloaded", "credential_refused"])(
    "of class %s spends nothing and waits as long as it says",
    (name) => {
      const last = standing({ attempts: 5 });
      const verdict = afterFailure(last, { class: name, retryAt: NOW + HOUR }, NOW, 0);
      expect(verdict).toEqual({ status: "pending", attempts: 4, returns: 1, runAt: NOW + HOUR });
      expect(waits(afterFailure(last, { class: name }, NOW, 0))).toBe(80 * SECOND);
      expect(waits(afterFailure(last, { class: name, retryAt: 0 }, NOW, 0))).toBe(0);
      expect(waits(afterFailure(last, { class: name, retryAt: 1e15 }, NOW, 0))).toBe(7 * DAY);
    },
  );

  test.each(["clone_failed", "claude_failed", "no_result", "timeout", "stalled", "unheard_of"])(
    "of class %s is tried again, until the attempts are spent",
    (name) => {
      const failure = { class: name, retryAt: NOW + HOUR };
      expect(waits(afterFailure(standing(), failure, NOW, 0))).toBe(5 * SECOND);
      const last = afterFailure(standing({ attempts: 5 }), failure, NOW, 0);
      expect(last).toMatchObject({ status: "dead", attempts: 5 });
    },
  );

  test("is followed by waits that double up to 10 minutes, and up to 5 s more", () => {
    const wait = (attempts: number, jitter: number) =>
      waits(afterFailure(standing({ attempts, maxAttempts: 20 }), { class: "crash" }, NOW, jitter));
    const seconds = [5, 10, 20, 40, 80, 160, 320, 600, 600];
    expect(seconds.map((_, i) => wait(i + 1, 0))).toEqual(seconds.map((s) => s * SECOND));
    expect(wait(1, 0.999)).toBe(9995);
  });

  test("before the first heartbeat spends nothing", () => {
    const verdict = afterFailure(
      standing({ attempts: 0, maxAttempts: 1, spent: false }),
      { class: "crash" },
      NOW,
      0,
    );
    expect(verdict).toMatchObject({ status: "pending", attempts: 0, returns: 1 });
  });
});

describe("an expiry", () => {
  test("makes a job claimable at once, or dead when the attempts are spent", () => {
    expect(waits(afterExpiry(standing(), NOW))).toBe(0);
    expect(waits(afterExpiry(standing({ attempts: 5 }), NOW))).toBe("dead");
  });

  test("before the first heartbeat is a return", () => {
    const unspent = standing({ attempts: 4, spent: false });
    expect(afterExpiry(unspent, NOW)).toMatchObject({ attempts: 4, returns: 1 });
  });
});

describe("a return", () => {
  test("gives back the attempt only if it was spent", () => {
    expect(afterReturn(standing(), NOW, NOW)).toMatchObject({ attempts: 0, returns: 1 });
    const unspent = standing({ attempts: 2, spent: false });
    expect(afterReturn(unspent, NOW, NOW)).toMatchObject({ attempts: 2, returns: 1 });
  });

  test("waits from the fifth time on, doubling from 1 minute to 1 hour", () => {
    const wait = (returns: number) => waits(afterReturn(standing({ returns }), NOW, NOW));
    const minutes = [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60];
    expect(minutes.map((_, i) => wait(i))).toEqual(minutes.map((m) => m * MINUTE));
    const asked = afterReturn(standing({ returns: 5 }), NOW, NOW + HOUR);
    expect(waits(asked)).toBe(HOUR);
  });

  test("is the end 7 days after the first claim, not before", () => {
    const early = standing({ returns: 99, firstClaimedAt: NOW - 7 * DAY + 1 });
    expect(afterReturn(early, NOW, NOW).status).toBe("pending");
    const late = standing({ firstClaimedAt: NOW - 7 * DAY });
    expect(afterReturn(late, NOW, NOW)).toMatchObject({ status: "dead", gaveUpWaiting: true });
  });
});
