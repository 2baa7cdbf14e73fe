/**
 * A deployment whose whole state can be taken out and put back between any two calls.
 *
 * The functions' own handlers run on the tables and indexes of Convex's test engine. Only what
 * lies between the two is shorter than in the engine, which turns every value into JSON and back
 * and switches contexts: `shortcut.test.ts` shows that both ways come to the same.
 */

import { getFunctionName } from "convex/server";
import type { Value } from "convex/values";
import type { Modules } from "../../localconvex/functions.ts";
import { type Database, type Document, openEngine } from "../../localconvex/internals.ts";

export const WORKER_KEY = "the model's worker key";
export const OPERATOR_KEY = "the model's operator key";

/** Everything that a deployment knows. Documents are never changed in place, so states share them. */
export type Tables = {
  documents: Readonly<Record<string, Document>>;
  nextId: number;
  lastCreationTime: number;
};

export type Refusal = {
  code: string;
  reason?: string;
  missing?: number[];
  [more: string]: unknown;
};
// biome-ignore lint/suspicious/noExplicitAny: answers are read as a client without types does
export type Answer = any;
export type Outcome =
  | { value: Answer; refused?: undefined }
  | { value?: undefined; refused: Refusal };

interface Transactions extends Database {
  startTransaction(): void;
  rollbackWrites(): void;
  startQuery(query: unknown): number;
}

type Handler = (ctx: unknown, args: unknown) => Promise<unknown>;
type Bound = { type: string; fieldPath: string; value: unknown };

/** The time that the functions read, in milliseconds. */
export const clock = { now: 0 };

export class ModelDeployment {
  readonly #db: Transactions;
  readonly #handlers = new Map<string, Handler>();
  readonly #ctx: unknown;
  /** Told of each call, with the tables before and after it. */
  watch:
    | ((
        name: string,
        args: Record<string, unknown>,
        before: Tables,
        outcome: Outcome,
        after: Tables,
      ) => Promise<void>)
    | undefined;

  private constructor(db: Transactions, modules: Modules) {
    this.#db = db;
    for (const [module, exported] of modules) {
      for (const [name, value] of Object.entries(exported)) {
        const handler = (value as { _handler?: Handler } | null)?._handler;
        if (handler) this.#handlers.set(`${module}:${name}`, handler);
      }
    }
    this.#ctx = context(db);
  }

  /** An empty deployment of *modules*. */
  static async open(modules: Modules): Promise<ModelDeployment> {
    const loaders = [...modules].map(([name, module]) => [`./${name}.ts`, async () => module]);
    loaders.push(["./_generated/api.ts", async () => ({})]);
    const schema = modules.get("schema")?.default as never;
    const { internals } = await openEngine(schema, Object.fromEntries(loaders));
    const { db } = internals.components[""];
    // The other tests see to it that what the functions write is valid.
    db._validate = () => {};
    return new ModelDeployment(db as Transactions, modules);
  }

  take(): Tables {
    const { _documents, _nextDocId, _lastCreationTime } = this.#db;
    return {
      documents: { ..._documents },
      nextId: _nextDocId,
      lastCreationTime: _lastCreationTime,
    };
  }

  put({ documents, nextId, lastCreationTime }: Tables): void {
    this.#db._documents = { ...documents };
    this.#db._nextDocId = nextId;
    this.#db._lastCreationTime = lastCreationTime;
  }

  /** The documents as they are now; not to be kept. */
  get documents(): Record<string, Document> {
    return this.#db._documents;
  }

  /** Call a function in a transaction of its own. */
  async call(name: string, args: Record<string, unknown>): Promise<Outcome> {
    if (this.watch === undefined) return await this.#call(name, args);
    const before = this.take();
    const outcome = await this.#call(name, args);
    await this.watch(name, args, before, outcome, this.take());
    return outcome;
  }

  async #call(name: string, args: Record<string, unknown>): Promise<Outcome> {
    const handler = this.#handlers.get(name);
    if (!handler) throw new Error(`no function ${name}`);
    this.#db.startTransaction();
    try {
      const value = (await handler(this.#ctx, args)) as Answer;
      this.#db.commit(null);
      return { value };
    } catch (error) {
      this.#db.rollbackWrites();
      const refused = (error as { data?: Refusal }).data;
      if (refused === undefined) throw error;
      return { refused };
    } finally {
      this.#db._queryResults = {};
    }
  }
}

/** What handlers get, straight on the engine's tables. */
function context(db: Transactions) {
  const write = <Result>(act: () => Result) => Promise.resolve(act());
  const database = {
    get: async (id: string) => db.get(undefined, id),
    query: (table: string) => new Query(db, table),
    insert: (table: string, value: Record<string, unknown>) =>
      write(() => db.insert(table, defined(value))),
    patch: (id: string, value: Record<string, unknown>) =>
      write(() => db.patch(undefined as never, id, encoded(value))),
    replace: (id: string, value: Record<string, unknown>) =>
      write(() => (db as never as Replaces).replace(undefined, id, defined(value))),
    delete: (id: string) => write(() => db.delete(undefined, id)),
    normalizeId: (table: string, id: string) =>
      /^[0-9]+/.test(id) && tableOf(id) === table ? id : null,
    system: { get: async (id: string) => db.get(undefined, id), normalizeId: () => null },
  };
  const scheduler = {
    runAt: (at: number, reference: never, args: Value) =>
      write(() =>
        db.insert("_scheduled_functions", {
          name: getFunctionName(reference),
          args: [args],
          scheduledTime: at,
          state: { kind: "pending" },
        }),
      ),
    runAfter: (ms: number, reference: never, args: Value) =>
      scheduler.runAt(clock.now + ms, reference, args),
  };
  return { db: database, scheduler };
}

type Replaces = {
  replace(table: undefined, id: string, value: Record<string, unknown>): void;
};

export function tableOf(id: string): string {
  return id.replace(/^[0-9]+/, "");
}

/** Convex stores no undefined. */
function defined(value: Record<string, unknown>): Record<string, unknown> {
  const fields = Object.entries(value).filter(([, field]) => field !== undefined);
  return Object.fromEntries(fields.map(([name, field]) => [name, stored(field)]));
}

function stored(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(stored);
  const isObject = typeof value === "object" && value !== null;
  return isObject ? defined(value as Record<string, unknown>) : value;
}

/** The form in which the engine takes a patch: undefined removes a field. */
function encoded(value: Record<string, unknown>): Record<string, unknown> {
  const fields = Object.entries(value).map(([name, field]) => [
    name,
    field === undefined ? { $undefined: null } : stored(field),
  ]);
  return Object.fromEntries(fields);
}

class Query {
  readonly #db: Transactions;
  readonly #table: string;
  #index = "by_creation_time";
  #range: Bound[] = [];
  #order = "asc";

  constructor(db: Transactions, table: string) {
    this.#db = db;
    this.#table = table;
  }

  withIndex(name: string, build?: (range: unknown) => unknown): this {
    this.#index = name;
    const bound = (type: string) => (fieldPath: string, value: unknown) => {
      this.#range.push({
        type,
        fieldPath,
        value: value === undefined ? { $undefined: null } : value,
      });
      return range;
    };
    const range = {
      eq: bound("Eq"),
      gt: bound("Gt"),
      gte: bound("Gte"),
      lt: bound("Lt"),
      lte: bound("Lte"),
    };
    build?.(range);
    return this;
  }

  order(order: string): this {
    this.#order = order;
    return this;
  }

  async collect(): Promise<Document[]> {
    return this.#db._evaluateQuery({
      source: {
        type: "IndexRange",
        indexName: `${this.#table}.${this.#index}`,
        range: this.#range,
        order: this.#order,
      },
      operators: [],
    } as never);
  }

  async take(most: number): Promise<Document[]> {
    return (await this.collect()).slice(0, most);
  }

  async first(): Promise<Document | null> {
    return (await this.collect())[0] ?? null;
  }

  async unique(): Promise<Document | null> {
    const rows = await this.collect();
    if (rows.length > 1) throw new Error(`unique() found ${rows.length} in ${this.#table}`);
    return rows[0] ?? null;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Document> {
    yield* await this.collect();
  }
}
