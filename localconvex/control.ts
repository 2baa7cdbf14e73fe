import type { JSONValue } from "convex/values";
import { convexToJson, jsonToConvex } from "convex/values";
import { ahead, now } from "./clock.ts";
import type { Engine } from "./engine.ts";
import { type Faults, isCallFault, parseFault } from "./faults.ts";
import type { Listener } from "./listener.ts";
import { Refusal } from "./refusal.ts";
import type { Sync } from "./sync.ts";
import type { Timers } from "./timers.ts";

type Fields = Record<string, unknown>;
type Answer = JSONValue | { [key: string]: JSONValue };

/** The parts of the backend that a test may reach into. */
export interface Reach {
  engine: Engine;
  faults: Faults;
  timers: Timers;
  listener: Listener;
  sync: Sync;
}

/** The fault interface, `/_…`: what a test may do that no client of Convex can. */
export class Control {
  readonly #reach: Reach;

  constructor(reach: Reach) {
    this.#reach = reach;
  }

  /** Carry out a request whose body is *body*. @throws Refusal for what is no request. */
  async answer(method: string, url: URL, body: unknown): Promise<Answer> {
    const fields = (body ?? {}) as Fields;
    switch (`${method} ${url.pathname}`) {
      case "GET /_faults":
        return this.#rules();
      case "POST /_faults":
        return this.#addFaults(Array.isArray(body) ? body : [body]);
      case "DELETE /_faults":
        this.#reach.faults.clear();
        return this.#rules();
      case "POST /_disconnect":
        return { disconnected: this.#reach.sync.disconnect() };
      case "GET /_clock":
        return clock();
      case "POST /_clock":
        return await this.#moveClock(fields);
      case "GET /_rows":
        return this.#readRows(url.searchParams.get("table") ?? "");
      case "POST /_rows":
        return await this.#insertRows(fields);
      case "PATCH /_rows":
        return await this.#patchRow(fields);
      default:
        throw new Refusal(404, "NotFound", `There is no ${method} ${url.pathname}.`);
    }
  }

  #addFaults(inputs: unknown[]): Answer {
    const faults = inputs.map(parseFault);
    this.#reach.faults.add(faults.filter(isCallFault));
    const refusals = faults.filter(({ fault }) => fault === "refuse");
    const ms = Math.max(0, ...refusals.map((refusal) => refusal.ms));
    // This answer is still given; then nobody is let in.
    if (refusals.length > 0) setImmediate(() => this.#refuse(ms));
    return this.#rules();
  }

  #refuse(ms: number): void {
    this.#reach.listener.refuse(ms);
    // A socket has left the HTTP server, which drops only what it still has.
    this.#reach.sync.disconnect();
  }

  #rules(): Answer {
    return this.#reach.faults.rules.map((rule) => ({ ...rule })) as unknown as JSONValue;
  }

  async #moveClock({ advanceMs, jump = false }: Fields): Promise<Answer> {
    if (typeof advanceMs !== "number" || !(advanceMs >= 0) || typeof jump !== "boolean") {
      throw new Refusal(400, "BadClock", "advanceMs is to be a number of milliseconds, 0 or more.");
    }
    await this.#reach.timers.advance(advanceMs, jump);
    return clock();
  }

  #readRows(table: string): Answer {
    const rows = this.#reach.engine.documents(table);
    rows.sort((a, b) => a._creationTime - b._creationTime);
    return { rows: rows.map((row) => convexToJson(row)) };
  }

  async #insertRows({ table, rows }: Fields): Promise<Answer> {
    const { engine } = this.#reach;
    if (typeof table !== "string" || !Array.isArray(rows)) {
      throw new Refusal(400, "BadRows", "The body is to be {table, rows}.");
    }
    if (engine.db._schema && !engine.db._schema.tables.has(table)) {
      throw new Refusal(400, "BadRows", `The schema has no table "${table}".`);
    }
    return await engine
      .transaction(() => ({ ids: rows.map((row) => insertRow(engine, table, row)) }))
      .catch((error: Error) => {
        throw new Refusal(400, "BadRows", error.message);
      });
  }

  /** Change fields of one row, as an application's own function would; null removes a field. */
  async #patchRow({ table, id, fields }: Fields): Promise<Answer> {
    const { engine } = this.#reach;
    if (typeof table !== "string" || typeof id !== "string" || typeof fields !== "object") {
      throw new Refusal(400, "BadRows", "The body is to be {table, id, fields}.");
    }
    const changes = Object.fromEntries(
      Object.entries(fields ?? {}).map(([name, value]) => [
        name,
        value === null ? undefined : jsonToConvex(value as JSONValue),
      ]),
    );
    return await engine
      .transaction(() => {
        engine.db.patch(table, id, changes);
        return { id };
      })
      .catch((error: Error) => {
        throw new Refusal(400, "BadRows", error.message);
      });
  }
}

/** Insert one row as an import does: with a creation time of its own if it brings one. */
function insertRow(engine: Engine, table: string, json: JSONValue): string {
  const { _id: _, _creationTime, ...fields } = jsonToConvex(json) as Fields;
  const id = engine.db.insert(table, fields);
  const row = engine.db.get(table, id);
  if (row && typeof _creationTime === "number") engine.db._addWrite(id, { ...row, _creationTime });
  return id;
}

function clock(): Answer {
  return { now: now(), aheadMs: ahead() };
}
