/** Nobody gets in without a key, through any function that there is or will be. */

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { sha256Hex } from "../../convex/digests";
import {
  type Deployment,
  deploy,
  functionModules,
  OPERATOR_KEY,
  refusal,
  WORKER_KEY,
} from "./deployment";

type Validator = { type: string; value?: unknown };
type Fields = Record<string, { fieldType: Validator; optional: boolean }>;
type Registered = {
  isPublic?: boolean;
  isInternal?: boolean;
  isQuery?: boolean;
  exportArgs?: () => string;
};
type PublicFunction = { name: string; kind: "query" | "mutation"; fields: Fields };

/** A value that the validator accepts, so that a refusal is for the key alone. */
function sample({ type, value }: Validator): unknown {
  if (type === "string") return "text";
  if (type === "number") return 1;
  if (type === "literal") return value;
  if (type === "union") return sample((value as Validator[])[0] as Validator);
  if (type === "array") return [];
  throw new Error(`no sample for an argument of type ${type}`);
}

async function publicFunctions(): Promise<PublicFunction[]> {
  const found: PublicFunction[] = [];
  for (const [path, load] of Object.entries(functionModules)) {
    const module = path.replace(/^.*\/|\.ts$/g, "");
    for (const [name, exported] of Object.entries((await load()) as Record<string, Registered>)) {
      if (!exported?.isPublic) continue;
      const fields = JSON.parse(exported.exportArgs?.() ?? "{}").value as Fields;
      const kind = exported.isQuery ? "query" : "mutation";
      found.push({ name: `${module}:${name}`, kind, fields });
    }
  }
  return found;
}

const found = await publicFunctions();

let convex: Deployment;
beforeEach(async () => {
  convex = await deploy();
});
afterEach(() => vi.useRealTimers());

test("every function of the protocol is there", () => {
  expect(found.map(({ name }) => name).sort()).toEqual([
    "docs:list",
    "jobs:cancel",
    "jobs:enqueue",
    "jobs:get",
    "jobs:list",
    "jobs:logs",
    "jobs:retry",
    "queue:about",
    "queue:appendLogs",
    "queue:cancellations",
    "queue:claim",
    "queue:cloneToken",
    "queue:complete",
    "queue:fail",
    "queue:heartbeat",
    "queue:pulse",
    "queue:release",
    "queue:report",
    "queue:stageDocs",
    "queue:uploadUrl",
    "queue:workAvailable",
    "workers:list",
  ]);
});

describe.each(found)("$name", ({ name, kind, fields }) => {
  const keyName = name.startsWith("queue:") ? "workerKey" : "operatorKey";
  const variable = `FONDATION_${keyName === "workerKey" ? "WORKER" : "OPERATOR"}_KEY_SHA256`;
  const others = Object.fromEntries(
    Object.entries(fields)
      .filter(([field, { optional }]) => field !== keyName && !optional)
      .map(([field, { fieldType }]) => [field, sample(fieldType)]),
  );
  const right = keyName === "workerKey" ? WORKER_KEY : OPERATOR_KEY;
  const call = (args: Record<string, unknown>) => convex[kind](name, { ...others, ...args });
  const unauthorized = { code: "unauthorized" };

  /** Any answer and any other refusal mean that the key was good. */
  async function isLetIn(key: string): Promise<boolean> {
    const outcome = await call({ [keyName]: key }).catch((error) => error.data);
    return outcome?.code !== "unauthorized";
  }

  test("refuses a call without a key", async () => {
    expect(await refusal(call({}))).toEqual(unauthorized);
  });

  test("refuses a wrong key, an empty one and the other role's", async () => {
    const other = keyName === "workerKey" ? OPERATOR_KEY : WORKER_KEY;
    for (const key of ["", "wrong", `${right} `, other]) {
      expect(await refusal(call({ [keyName]: key }))).toEqual(unauthorized);
    }
  });

  test("accepts each of several valid keys", async () => {
    const [first, second] = [await sha256Hex("first"), await sha256Hex("second")];
    process.env[variable] = `${first},\n ${second.toUpperCase()}`;
    expect(await isLetIn("first")).toBe(true);
    expect(await isLetIn("second")).toBe(true);
    expect(await isLetIn(right)).toBe(false);
  });

  test("lets nobody in where the variable is missing or holds no digest", async () => {
    delete process.env[variable];
    expect(await isLetIn(right)).toBe(false);
    process.env[variable] = right;
    expect(await isLetIn(right)).toBe(false);
    process.env[variable] = await sha256Hex("");
    expect(await isLetIn("")).toBe(false);
  });
});

test("everything else that is registered is internal", async () => {
  const internal: string[] = [];
  for (const [path, load] of Object.entries(functionModules)) {
    const exports = Object.entries((await load()) as Record<string, Registered>);
    for (const [name, exported] of exports) {
      if (exported?.exportArgs && !exported.isPublic) {
        expect(exported.isInternal, `${path} ${name}`).toBe(true);
        internal.push(name);
      }
    }
  }
  expect(internal.sort()).toEqual([
    "beat",
    "dropEarlier",
    "dropOutdated",
    "dropStaged",
    "dropUploads",
    "expire",
    "retain",
    "retention",
    "sweep",
  ]);
});
