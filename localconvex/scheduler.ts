import { getConvexSize, type JSONValue, jsonToConvex } from "convex/values";
import { now } from "./clock.ts";
import type { Engine } from "./engine.ts";
import { findFunction, type Modules } from "./functions.ts";
import type { Document } from "./internals.ts";
import { describe, event } from "./journal.ts";
import { newRun, type Run } from "./run.ts";

const TABLE = "_scheduled_functions";
const ENDED_KEPT_MS = 7 * 24 * 3600 * 1000;

type State = "pending" | "inProgress" | "success" | "failed" | "canceled";
type Entry = Document & { name: string; args: [Run["args"]]; state: { kind: State } };

/**
 * Functions that other functions scheduled: rows of `_scheduled_functions`.
 *
 * A scheduled mutation settles its row in its own commit, so it runs exactly once, whenever the
 * process is killed. An action is marked as begun before it runs, so it runs at most once.
 */
export class Scheduler {
  readonly #engine: Engine;
  readonly #modules: Modules;

  constructor(engine: Engine, modules: Modules) {
    this.#engine = engine;
    this.#modules = modules;
    engine.replaceSyscall("1.0/schedule", (args) => this.#schedule(args));
    engine.replaceSyscall("1.0/cancel_job", async ({ id }: { id: string }) => {
      this.#settle(id, "pending", "canceled");
      return {};
    });
  }

  /** Give up actions that the last process left unfinished, and forget rows that ended long ago. */
  async tidy(): Promise<void> {
    const rows = this.#engine.documents(TABLE) as Entry[];
    await this.#engine.transaction(() => {
      for (const { _id, state, completedTime } of rows) {
        if (state.kind === "inProgress") this.#settle(_id, "inProgress", "failed");
        if (typeof completedTime === "number" && completedTime < now() - ENDED_KEPT_MS) {
          this.#engine.db.delete(TABLE, _id);
        }
      }
    });
  }

  /** When *row* is to run, if it is a pending entry. */
  static dueTime(row: Document): number | undefined {
    return (row as Entry).state.kind === "pending" ? (row.scheduledTime as number) : undefined;
  }

  /** Whether the entry *row* runs an action, not a mutation. */
  isAction(row: Document): boolean {
    return findFunction(this.#modules, (row as Entry).name)?.kind === "action";
  }

  /** Run the entry *row*, and settle it whatever comes of it. */
  async run(row: Document): Promise<void> {
    const { _id: id, name, args } = row as Entry;
    const run = newRun(name, args[0]);
    const action = this.isAction(row);
    if (action && !(await this.#settled(id, "pending", "inProgress"))) return;
    try {
      if (action) await this.#engine.action(run);
      else await this.#engine.mutation(run, () => this.#settle(id, "pending", "success"));
    } catch (error) {
      event(name, `failed when run by the scheduler: ${describe(error)}`);
      await this.#settled(id, action ? "inProgress" : "pending", "failed");
      return;
    }
    if (action) await this.#settled(id, "inProgress", "success");
  }

  async #schedule(call: {
    name?: string;
    functionHandle?: string;
    args: JSONValue;
    ts: number;
  }): Promise<string> {
    const name = call.name ?? call.functionHandle?.split(";")[1] ?? "";
    const found = findFunction(this.#modules, name);
    if (!found || found.kind === "query") {
      throw new Error(`Cannot schedule '${name}': no such mutation or action`);
    }
    const args = jsonToConvex(call.args);
    this.#engine.countScheduled(getConvexSize(args));
    const scheduledTime = call.ts * 1000;
    const state = { kind: "pending" };
    return this.#engine.db.insert(TABLE, { name, args: [args], scheduledTime, state });
  }

  /** Move the entry from one state to the next; false when it is not in that state any more. */
  #settle(id: string, from: State, to: State): boolean {
    const row = this.#engine.db.get(TABLE, id) as Entry | null;
    if (row?.state.kind !== from) return false;
    const ended = to === "inProgress" ? {} : { completedTime: now() };
    this.#engine.db.patch(TABLE, id, { state: { kind: to }, ...ended });
    return true;
  }

  async #settled(id: string, from: State, to: State): Promise<boolean> {
    return await this.#engine.transaction(() => this.#settle(id, from, to));
  }
}
