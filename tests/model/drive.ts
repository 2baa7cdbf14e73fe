/**
 * The functions for a caller in another language: a line of JSON in, a line of JSON out.
 *
 * Ends with its standard input. The first argument names a deliberate bug, if there is to be one.
 */

import { createInterface } from "node:readline";
import { BUGS, type Bug } from "./bugs.ts";
import { clock, ModelDeployment, type Tables } from "./deployment.ts";
import { digestsOf, type Handed } from "./documents.ts";
import { loadFunctions } from "./functions.ts";
import { pin } from "./search.ts";
import { rowsOf, type ScheduledRow } from "./world.ts";

type Request =
  | { do: "reset"; now: number }
  | { do: "clock"; now: number }
  | { do: "call"; name: string; args: Record<string, unknown> }
  | { do: "due"; which: number }
  | { do: "rows"; table: string }
  | { do: "digests"; documents: Handed[] };

const EMPTY: Tables = { documents: {}, nextId: 10_000, lastCreationTime: 0 };

const [bug] = process.argv.slice(2);
const modules = await loadFunctions(...(bug === undefined ? [] : [BUGS[bug] as Bug]));
const deployment = await ModelDeployment.open(modules);
const { documentDigest } = modules.get("digests") as { documentDigest: never };
pin();

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await answer(JSON.parse(line)))}\n`);
}

async function answer(request: Request): Promise<unknown> {
  switch (request.do) {
    case "reset":
      clock.now = request.now;
      deployment.put(EMPTY);
      return null;
    case "clock":
      clock.now = request.now;
      return null;
    case "call":
      return await deployment
        .call(request.name, request.args)
        .catch((error: unknown) => ({ failed: String(error) }));
    case "due":
      return await runDue(request.which);
    case "rows":
      return rowsOf(deployment.documents, request.table);
    case "digests":
      return await digestsOf(request.documents, documentDigest);
  }
}

/** Run one of the scheduled calls whose time has come; its name, or null when there is none. */
async function runDue(which: number): Promise<unknown> {
  const rows = rowsOf<ScheduledRow>(deployment.documents, "_scheduled_functions");
  const due = rows.filter(({ scheduledTime }) => scheduledTime <= clock.now);
  const row = due[which % Math.max(due.length, 1)];
  if (row === undefined) return null;
  delete deployment.documents[row._id];
  await deployment.call(row.name, row.args[0]);
  return row.name;
}
