/** A search that finds nothing shows something only if it would have found it. */

import { describe, expect, test } from "vitest";
import { BUGS } from "./bugs.ts";
import { loadFunctions } from "./functions.ts";
import { KINDS, TIMES } from "./protocol.ts";
import { type Bounds, search } from "./search.ts";

const BOUNDS: Bounds = {
  workers: 2,
  jobs: 1,
  documents: 1,
  maxAttempts: 2,
  leaseMs: 30_000,
  drafts: false,
  outages: false,
  strays: false,
  operator: true,
  kinds: KINDS,
  times: TIMES,
};

describe.for(Object.entries(BUGS))("%s", ([name, { bounds, ...change }]) => {
  test("is found", { timeout: 60_000 }, async () => {
    const found = await search(await loadFunctions(change), { ...BOUNDS, ...bounds, depth: 14 });
    expect(found.violation, `${found.worlds} worlds`).toBeDefined();
    const { message, trace } = found.violation ?? { message: "", trace: [] };
    const steps = trace.map((step, n) => `${n + 1}. ${step}`).join("\n  ");
    console.log(`${name} (${found.worlds} worlds):\n  ${steps}\n  → ${message}`);
  });
});

test("a bug that does not apply any more is said to", async () => {
  const gone = { module: "queue", from: "this stands nowhere", to: "" };
  await expect(loadFunctions(gone)).rejects.toThrow("does not apply any more");
});
