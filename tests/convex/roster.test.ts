/** Which workers there are. */

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type Deployment, deploy, MINUTE, NOW, OPERATOR_KEY, refusal } from "./deployment";

let convex: Deployment;
beforeEach(async () => {
  convex = await deploy();
});
afterEach(() => vi.useRealTimers());

const REPORT = {
  workerId: "label",
  instance: "label-7f",
  version: "1.0",
  slots: 2,
  busy: 0,
  state: "waiting for work",
};

const report = async (fields = {}) => await convex.work("report", { ...REPORT, ...fields });
const workers = async () => await convex.query("workers:list", { operatorKey: OPERATOR_KEY });

describe("a worker", () => {
  test("is there once for each process, as it told last", async () => {
    expect(await report()).toEqual({ now: NOW });
    convex.skip(MINUTE);
    await report({ instance: "label-80" });
    convex.skip(MINUTE);
    const now = NOW + 2 * MINUTE;
    await report({ busy: 2, state: "working" });
    expect(await workers()).toEqual({
      workers: [
        { ...REPORT, busy: 2, state: "working", startedAt: NOW, seenAt: now },
        { ...REPORT, instance: "label-80", startedAt: NOW + MINUTE, seenAt: NOW + MINUTE },
      ],
      now,
    });
  });

  test("is told the latest seen first, at most 200 of them", async () => {
    for (let i = 0; i < 201; i += 1) {
      await report({ instance: `w-${i}` });
      convex.skip(1);
    }
    const seen = (await workers()).workers;
    expect(seen).toHaveLength(200);
    expect(seen[0].instance).toBe("w-200");
  });

  test("may say much, but not all of it is kept", async () => {
    await report({ state: "x".repeat(2000) });
    expect((await workers()).workers[0].state).toContain("[cut: 2000 bytes]");
  });

  test.each([
    ["workerId", ""],
    ["instance", "a\nb"],
    ["version", "x".repeat(65)],
    ["slots", -1],
    ["busy", 0.5],
  ])("may not tell the %s %j", async (field, value) => {
    expect(await refusal(report({ [field]: value }))).toMatchObject({ code: "invalid", field });
  });
});
