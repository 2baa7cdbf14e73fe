/** What the functions say of themselves. */

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { protocol, version } from "../../convex/about";
import { type Deployment, deploy, MINUTE, NOW } from "./deployment";

let convex: Deployment;
beforeEach(async () => {
  convex = await deploy();
});
afterEach(() => vi.useRealTimers());

test("a worker is told which functions these are, and what time it is there", async () => {
  expect(await convex.watch("about")).toEqual({ protocol, version, now: NOW });
  convex.skip(MINUTE);
  expect((await convex.watch("about")).now).toBe(NOW + MINUTE);
});

test("asking changes nothing", async () => {
  await convex.watch("about");
  await convex.inside(async (ctx) => {
    for (const table of ["jobs", "attempts", "workers", "pulse"] as const) {
      expect(await ctx.db.query(table).collect()).toEqual([]);
    }
  });
});
