/** The protocol as the functions have it, in every world that can come about. */

import { expect, test } from "vitest";
import { changesFor, loadFunctions } from "./functions.ts";
import { KINDS, TIMES } from "./protocol.ts";
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
  times: TIMES,
};

/** Grace and delay as long as a lease: else a short wait counts down each moment of a long one. */
const EQUAL = { grace: 30 * SECOND, delay: 30 * SECOND };

/** `./dev test model` sets it: then everything is searched to its end. */
const isWhole = process.env.FONDATION_MODEL === "whole";

async function searched(name: string, bounds: Bounds): Promise<Found> {
  const found = await search(await loadFunctions(...changesFor(bounds.times)), bounds);
  const { worlds, transitions, depth, seconds, closed, pairs, violation } = found;
  const end = closed ? `closed at depth ${depth}` : `to depth ${depth}`;
  const figures = `${worlds} worlds, ${transitions} transitions, ${end}, ${seconds.toFixed(1)} s`;
  console.log(`${name}: ${figures}, ${pairs} pairs compared`);
  expect(violation).toBeUndefined();
  return found;
}

test("two workers and a job, with every fault: every world", { timeout: 900_000 }, async () => {
  const faults = { outages: true, strays: true, drafts: isWhole, times: EQUAL };
  const size = isWhole ? { documents: 2, leaseMs: 60 * SECOND } : {};
  const { closed, pairs } = await searched("2 workers, 1 job", { ...SMALL, ...faults, ...size });
  expect(closed).toBe(true);
  expect(pairs).toBeGreaterThan(100);
});

test("two workers and a job, with the times as they are", { timeout: 600_000 }, async () => {
  const size = isWhole ? { documents: 2 } : { depth: 20 };
  const found = await searched("2 workers, 1 job, real times", { ...SMALL, ...size });
  expect(found.closed).toBe(isWhole);
});

test("two workers and two jobs", { timeout: 1_200_000 }, async () => {
  const depth = isWhole ? undefined : 9;
  const found = await searched("2 workers, 2 jobs", { ...SMALL, jobs: 2, times: EQUAL, depth });
  expect(found.closed).toBe(isWhole);
});
