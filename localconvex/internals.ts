/**
 * Convex's test engine, opened up.
 *
 * `convex-test` runs the functions, but shows neither its database nor its transactions, and this
 * backend has to persist the one and hook into the other. All its state travels through
 * `AsyncLocalStorage.run`, so watching that method during one empty call is enough to hold it,
 * without a changed copy of the package. What is used of it is declared here and nowhere else;
 * the package's version is pinned, because a newer one may have moved any of it.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { createRequire } from "node:module";
import type { SchemaDefinition } from "convex/server";
import type { Value } from "convex/values";
import type { Module } from "./functions.ts";

const TRIED_VERSION = "0.0.60";

export type Document = Record<string, Value> & { _id: string; _creationTime: number };

export interface SerializedQuery {
  operators: ({ filter: unknown } | { limit: number })[];
}

export interface Database {
  _documents: Record<string, Document>;
  _writes: Record<string, Document | null>[];
  _nextDocId: number;
  _lastCreationTime: number;
  _queryResults: Record<number, Document[]>;
  _schema: { tables: Map<string, unknown> } | null;
  get(table: string | undefined, id: string): Document | null;
  insert(table: string, value: Record<string, unknown>): string;
  patch(table: string, id: string, value: Record<string, unknown>): void;
  delete(table: string | undefined, id: string): void;
  commit(ts: bigint | null): void;
  _addWrite(id: string, document: Document): void;
  _validate(table: string, document: Record<string, unknown>): void;
  _iterateDocs(table: string, callback: (document: Document) => void): void;
  _resolveQuerySource(query: SerializedQuery): {
    sortedDocs: Document[];
    filterFn: (document: Document) => boolean;
    limit: number | null;
  };
  _evaluateQuery(query: SerializedQuery): Document[];
}

export interface Tracker {
  _current(): { metrics: Record<string, number> & { documentsRead: number } };
  trackRead(bytes: number): void;
  trackScheduledFunction(bytes: number): void;
}

export interface Internals {
  components: { "": { db: Database } };
  transactionManager: { _lastCommitTs: bigint; _metricsTracker: Tracker | null };
  asyncSyscall(op: string, json: string): Promise<string>;
  jsSyscall(op: string, args: Record<string, unknown>): Promise<unknown>;
}

type Path = { componentPath: ""; udfPath: string };
type Args = Record<string, Value>;

/** What the engine offers of its own accord, as far as it is used. */
export interface Runner {
  query(work: () => Promise<null>): Promise<null>;
  mutation(work: () => Promise<null>): Promise<null>;
  queryFromPath(path: Path, args: Args): Promise<Value>;
  mutationFromPath(path: Path, args: Args): Promise<Value>;
  actionFromPath(path: Path, args: Args): Promise<Value>;
  fetch(path: string, init: RequestInit): Promise<Response>;
}

export interface Opened {
  runner: Runner;
  internals: Internals;
  /** The kind of function that the present code runs in, if in any. */
  executing(): string | undefined;
}

/** Start an engine for *modules* and hold its state. */
export async function openEngine(
  schema: SchemaDefinition<never, boolean> | undefined,
  modules: Record<string, () => Promise<Module>>,
): Promise<Opened> {
  const { version } = createRequire(import.meta.url)("convex-test/package.json");
  if (version !== TRIED_VERSION) {
    throw new Error(`convex-test ${version} is installed; ${TRIED_VERSION} is the one that works`);
  }
  const { convexTest } = await import("convex-test");
  const runner = convexTest({ schema, modules, transactionLimits: true }) as unknown as Runner;
  return { runner, ...(await watchRun(() => runner.mutation(async () => null))) };
}

async function watchRun(call: () => Promise<unknown>): Promise<Omit<Opened, "runner">> {
  let internals: Internals | undefined;
  let execution: AsyncLocalStorage<{ udfType: string }> | undefined;
  const run = AsyncLocalStorage.prototype.run;
  AsyncLocalStorage.prototype.run = function (this: unknown, ...args: [unknown, () => unknown]) {
    const [store] = args;
    if (isObject(store) && "transactionManager" in store) internals = store as Internals;
    if (isObject(store) && "udfType" in store) execution = this as typeof execution;
    return run.apply(this as AsyncLocalStorage<unknown>, args);
  } as typeof run;
  try {
    await call();
  } finally {
    AsyncLocalStorage.prototype.run = run;
  }
  if (!internals || !execution) throw new Error("the engine did not show its state");
  const found = execution;
  return { internals, executing: () => found.getStore()?.udfType };
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}
