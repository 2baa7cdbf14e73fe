/**
 * The search calls the handlers without the engine's own way of calling. Both come to the same.
 *
 * A long random walk is gone in the model; each of its calls is made again through the engine, on
 * the same tables, and must leave the same documents and give the same answer.
 */

import type { Value } from "convex/values";
import { convexToJson } from "convex/values";
import { expect, test } from "vitest";
import { openEngine } from "../../localconvex/internals.ts";
import { clock, type ModelDeployment } from "./deployment.ts";
import { loadFunctions } from "./functions.ts";
import { walk } from "./search.ts";

const STEPS = 400;

test("a call through the engine comes to the same", { timeout: 60_000 }, async () => {
  const modules = await loadFunctions();
  const loaders = [...modules].map(([name, module]) => [`./${name}.ts`, async () => module]);
  loaders.push(["./_generated/api.ts", async () => ({})]);
  const schema = modules.get("schema")?.default as never;
  const { runner, internals } = await openEngine(schema, Object.fromEntries(loaders));
  const { db } = internals.components[""];
  // What is scheduled runs when the model says, not by a timer of the engine.
  const others = internals.asyncSyscall;
  internals.asyncSyscall = async (op, json) => {
    if (op !== "1.0/schedule") return await others(op, json);
    const { name, args, ts } = JSON.parse(json);
    const row = { name, args: [args], scheduledTime: ts * 1000, state: { kind: "pending" } };
    return JSON.stringify(db.insert("_scheduled_functions", row));
  };

  let calls = 0;
  const compare: ModelDeployment["watch"] = async (name, args, before, outcome, after) => {
    calls += 1;
    db._documents = { ...before.documents };
    db._nextDocId = before.nextId;
    db._lastCreationTime = before.lastCreationTime;
    const path = { componentPath: "" as const, udfPath: name };
    const again = await runner.mutationFromPath(path, args as Record<string, Value>).then(
      (value) => ({ value }),
      (error: { data?: unknown }) => ({ refused: error.data }),
    );
    const { value = null, refused } = outcome;
    expect(plain(again), name).toEqual(plain(refused ? { refused } : { value }));
    expect(plain(db._documents), name).toEqual(plain(after.documents));
  };
  await walk(modules, STEPS, compare);
  expect(calls).toBeGreaterThan(STEPS / 2);
  expect(clock.now).toBeGreaterThan(0);
});

function plain(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (_, field) =>
      typeof field === "bigint" ? String(convexToJson(field)) : field,
    ),
  );
}
