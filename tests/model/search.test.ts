/** The protocol as the functions have it, in every world that can come about. */

import { expect, test } from "vitest";
import { loadFunctions } from "./functions.ts";
import { KINDS } from "./protocol.ts";
import { type Bounds, type Found, search } from "./search.ts";

const SECOND = 1_000;

/** Two workers and a job: small enough to see everything, large enough for every race. */
const SMALL: Bounds = {
  workers: 2,
  jobs: 1,
  documents: 1,
  maxAttempts: 2,
  leaseMs: 30 * SECOND,
  drafts: false,
  outages: false,
  strays: false,
  operator: true,
  kinds: KINDS,
};

/** `./dev test model` sets it: then everything is searched to its end. */
const isWhole = process.env.FONDATION_MODEL === "whole";

async function searched(name: string, bounds: Bounds): Promise<Found> {
  const found = await search(await loadFunctions(), bounds);
  const { worlds, transitions, depth, seconds, closed, pairs, violation } = found;
  const end = closed ? `closed at depth ${depth}` : `to depth ${depth}`;
  const figures = `${worlds} worlds, ${transitions} transitions, ${end}, ${seconds.toFixed(1)} s`;
  console.log(`${name}: ${figures}, ${pairs} pairs compared`);
  expect(violation).toBeUndefined();
  return found;
}

test("two workers and a job: every world", { timeout: 600_000 }, async () => {
  const { closed, pairs } = await searched("2 workers, 1 job", {
    ...SMALL,
    documents: isWhole ? 2 : 1,
  });
  expect(closed).toBe(true);
  expect(pairs).toBeGreaterThan(100);
});

test("drafts, outages, workers that give up without a word", { timeout: 600_000 }, async () => {
  const all = { documents: 2, leaseMs: 60 * SECOND, drafts: true, outages: true, strays: true };
  await searched("2 workers, 1 job, with more faults", {
    ...SMALL,
    ...all,
    depth: isWhole ? 16 : 8,
  });
});

test("two workers and two jobs, with everything", { timeout: 600_000 }, async () => {
  const two = { jobs: 2, leaseMs: 10 * SECOND };
  await searched("2 workers, 2 jobs", { ...SMALL, ...two, depth: isWhole ? 12 : 8 });
});

test.runIf(isWhole)("two workers and two jobs: every world", { timeout: 1_800_000 }, async () => {
  // What an operator does, and the other failures, concern one job: they are searched above.
  const fewer = { operator: false, kinds: ["retried" as const], maxAttempts: 1 };
  const two = { jobs: 2, leaseMs: 10 * SECOND };
  const { closed } = await searched("2 workers, 2 jobs, to the end", {
    ...SMALL,
    ...two,
    ...fewer,
  });
  expect(closed).toBe(true);
});
