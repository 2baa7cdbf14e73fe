import type { SchemaDefinition } from "convex/server";
import type { Value } from "convex/values";
import { atOneInstant } from "./clock.ts";
import type { Modules } from "./functions.ts";
import { type Database, type Document, type Opened, openEngine } from "./internals.ts";
import { checkDocument } from "./limits.ts";
import type { CommitLog } from "./log.ts";
import { type Answer, Persistence } from "./persistence.ts";
import { tableOf, watchReads } from "./reads.ts";
import { currentRun, newRun, outside, type Run } from "./run.ts";

export type Outcome = { value: Value } | { error: unknown };
/** The documents of one commit as they are after it; null for a deleted one. */
export type Commit = ReadonlyMap<string, Document | null>;
type Syscall = (args: never) => Promise<unknown>;

const FAULTS_SHOWN = 5;

/** The functions and their data: one transaction at a time, each on the disk when it ends. */
export class Engine {
  readonly persistence: Persistence;
  readonly #opened: Opened;
  readonly #listeners: ((commit: Commit) => void)[] = [];

  private constructor(opened: Opened, log: CommitLog) {
    this.#opened = opened;
    this.persistence = new Persistence(opened.internals, log);
  }

  /**
   * Start the engine for *modules* with the data that *log* holds.
   *
   * @throws Error naming stored documents that the schema refuses.
   */
  static async start(modules: Modules, log: CommitLog): Promise<Engine> {
    const schema = modules.get("schema")?.default as SchemaDefinition<never, boolean> | undefined;
    const loaders = [...modules].map(([name, module]) => [`./${name}.ts`, async () => module]);
    // By the name of this one the engine finds the root of the folder.
    loaders.push(["./_generated/api.ts", async () => ({})]);
    const engine = new Engine(await openEngine(schema, Object.fromEntries(loaders)), log);
    watchReads(engine.#opened.internals);
    engine.#limitDocuments();
    engine.persistence.restore();
    engine.#checkStored();
    engine.#watchCommits();
    return engine;
  }

  get db(): Database {
    return this.#opened.internals.components[""].db;
  }

  /** The committed document *id*, or undefined. */
  document(id: string): Document | undefined {
    return this.db._documents[id];
  }

  /** The committed documents of *table*. */
  documents(table: string): Document[] {
    return Object.values(this.db._documents).filter(({ _id }) => tableOf(_id) === table);
  }

  /** Call *listener* after each commit, with its documents, outside of its transaction. */
  onCommit(listener: (commit: Commit) => void): void {
    this.#listeners.push(listener);
  }

  /** Run queries on one snapshot of the data, and say which by its timestamp. */
  async queries(runs: Run[]): Promise<{ ts: bigint; outcomes: Outcome[] }> {
    const { runner, internals } = this.#opened;
    const outcomes: Outcome[] = [];
    let ts = 0n;
    const work = async () => {
      ts = internals.transactionManager._lastCommitTs;
      for (const run of runs) {
        this.#resetMetrics();
        const value = currentRun.run(run, () => runner.queryFromPath(at(run), run.args));
        outcomes.push(await settled(value));
        run.documentsRead = this.#metrics().documentsRead;
      }
    };
    await runner.query(() => this.#inside(work));
    return { ts, outcomes };
  }

  /**
   * Run a mutation; when this returns, its commit is on the disk.
   *
   * The function runs nested in a transaction of our own, so that what belongs to the call is
   * committed with it or not at all: the answer to the client's request, and the writes of
   * *beforehand*, which may also stop the call by returning false.
   */
  async mutation(run: Run, beforehand?: () => boolean): Promise<Answer | undefined> {
    const { runner } = this.#opened;
    let earlier: Answer | undefined;
    await this.#transaction(run, async () => {
      // Asked inside the transaction: the first try of the same request may just be ending.
      earlier = this.persistence.answerTo(run.request);
      if (earlier || (beforehand && !beforehand())) return;
      try {
        run.value = await runner.mutationFromPath(at(run), run.args);
      } finally {
        run.documentsRead = this.#metrics().documentsRead;
      }
    });
    if (run.value === undefined || run.ts === undefined) return earlier;
    return { value: run.value, ts: run.ts };
  }

  /** Run an action; the calls it makes are transactions of their own. */
  async action(run: Run): Promise<Value> {
    return await currentRun.run(run, () => this.#opened.runner.actionFromPath(at(run), run.args));
  }

  /** Answer an HTTP request by the routes of `http.ts`. */
  async httpAction(path: string, init: RequestInit): Promise<Response> {
    return await currentRun.run(newRun("http", {}), () => this.#opened.runner.fetch(path, init));
  }

  /** Write to the database directly, as one commit. */
  async transaction<T>(work: () => T): Promise<T> {
    const result: { value?: T } = {};
    await this.#transaction(newRun("backend", {}), async () => {
      result.value = work();
    });
    return result.value as T;
  }

  /** Write as part of the function that is running, or, in an action, as a commit of its own. */
  async write<T>(work: () => T): Promise<T> {
    return this.#opened.executing() === "mutation" ? work() : await this.transaction(work);
  }

  /** Take the place of one of the engine's calls from functions into the database. */
  replaceSyscall(op: string, syscall: Syscall): void {
    const { internals } = this.#opened;
    const others = internals.asyncSyscall;
    internals.asyncSyscall = async (called, json) =>
      called === op
        ? JSON.stringify(await syscall(JSON.parse(json) as never))
        : others(called, json);
  }

  /** The same for the calls that carry objects instead of JSON. */
  replaceJsSyscall(op: string, syscall: Syscall): void {
    const { internals } = this.#opened;
    const others = internals.jsSyscall;
    internals.jsSyscall = async (called, args) =>
      called === op ? await syscall(args as never) : others(called, args);
  }

  /** Count scheduled arguments of *bytes* against the limits of the running function. */
  countScheduled(bytes: number): void {
    this.#opened.internals.transactionManager._metricsTracker?.trackScheduledFunction(bytes);
  }

  async #transaction(run: Run, work: () => Promise<void>): Promise<void> {
    await currentRun.run(run, () => this.#opened.runner.mutation(() => this.#inside(work)));
  }

  /** The inside of every transaction: time stands still, and what the last one left is gone. */
  async #inside(work: () => Promise<void>): Promise<null> {
    // The engine keeps the emptied results of every query it ever ran.
    this.db._queryResults = {};
    await atOneInstant(work);
    return null;
  }

  #limitDocuments(): void {
    const validate = this.db._validate.bind(this.db);
    this.db._validate = (table, document) => {
      validate(table, document);
      if (!table.startsWith("_")) checkDocument(document as Value);
    };
  }

  #checkStored(): void {
    const faults: string[] = [];
    for (const { _id, _creationTime, ...fields } of Object.values(this.db._documents)) {
      try {
        this.db._validate(tableOf(_id), fields);
      } catch (error) {
        faults.push(`${_id}: ${error instanceof Error ? error.message : error}`);
      }
    }
    if (faults.length === 0) return;
    const shown = faults.slice(0, FAULTS_SHOWN).join("\n  ");
    throw new Error(`the schema refuses ${faults.length} stored document(s):\n  ${shown}`);
  }

  #watchCommits(): void {
    const { db } = this;
    const commit = db.commit.bind(db);
    db.commit = (ts) => {
      const writes = db._writes.length === 1 ? Object.keys(db._writes[0] ?? {}) : undefined;
      commit(ts);
      if (writes === undefined || ts === null) return;
      const documents = new Map(writes.map((id) => [id, db._documents[id] ?? null]));
      const run = currentRun.getStore();
      if (run) run.ts = ts;
      this.persistence.commit(ts, documents, run);
      outside(() => {
        for (const listener of this.#listeners) listener(documents);
      });
    };
  }

  #metrics(): Record<string, number> & { documentsRead: number } {
    const tracker = this.#opened.internals.transactionManager._metricsTracker;
    if (!tracker) throw new Error("no transaction is under way");
    return tracker._current().metrics;
  }

  /** Give the next query of a snapshot the limits of a transaction of its own. */
  #resetMetrics(): void {
    const metrics = this.#metrics();
    for (const name of Object.keys(metrics)) metrics[name] = 0;
  }
}

function at(run: Run): { componentPath: ""; udfPath: string } {
  return { componentPath: "", udfPath: run.path };
}

async function settled(work: Promise<Value>): Promise<Outcome> {
  try {
    return { value: await work };
  } catch (error) {
    return { error };
  }
}
