import { setTimeout as sleep } from "node:timers/promises";
import type { Reply } from "./calls.ts";
import type { Kind } from "./functions.ts";
import { event } from "./journal.ts";
import { Refusal } from "./refusal.ts";

const CALL_FAULTS = ["delayBefore", "conflict", "delayAfter", "lostReply"] as const;

type Fields = Record<string, unknown>;

// The longest time that a timer takes.
const MOST_MS = 2 ** 31 - 1;

/** What a test may ask for. `refuse` is about connections, the others are about calls. */
export interface Fault {
  fault: (typeof CALL_FAULTS)[number] | "refuse";
  kind?: Kind;
  path?: string;
  times: number;
  ms: number;
}

/** One rule: the next *times* calls that match *kind* and *path* go wrong in this way. */
export interface CallFault extends Fault {
  fault: (typeof CALL_FAULTS)[number];
}

/** What becomes of a call: its reply, a conflict instead, or a reply that never arrives. */
export type Delivery = Reply | "conflict" | "lost";

/** The faults that calls are to meet. There are none unless a test asks for them. */
export class Faults {
  #rules: CallFault[] = [];

  get rules(): readonly CallFault[] {
    return this.#rules;
  }

  /** Add rules, after those that are there. */
  add(rules: readonly CallFault[]): void {
    this.#rules.push(...rules);
  }

  clear(): void {
    this.#rules = [];
  }

  /** Make the call of a client, with the faults that are due for it. */
  async deliver(kind: Kind, path: string, call: () => Promise<Reply>): Promise<Delivery> {
    const due = this.#take(kind, path);
    await sleep(due.get("delayBefore")?.ms ?? 0);
    if (due.has("conflict")) return "conflict";
    const reply = await call();
    await sleep(due.get("delayAfter")?.ms ?? 0);
    return due.has("lostReply") ? "lost" : reply;
  }

  /** At most one rule of each sort, so that two conflicts meet two calls. */
  #take(kind: Kind, path: string): Map<CallFault["fault"], CallFault> {
    const due = new Map<CallFault["fault"], CallFault>();
    for (const rule of this.#rules) {
      const matches = (rule.kind ?? kind) === kind && (rule.path ?? path) === path;
      if (!matches || due.has(rule.fault)) continue;
      event("faults", `${rule.fault} for ${kind} ${path}`);
      rule.times -= 1;
      due.set(rule.fault, rule);
    }
    this.#rules = this.#rules.filter(({ times }) => times > 0);
    return due;
  }
}

/** Whether *fault* is one that a call meets. */
export function isCallFault(fault: Fault): fault is CallFault {
  return fault.fault !== "refuse";
}

/** The fault that *input* states. @throws Refusal when it states none. */
export function parseFault(input: unknown): Fault {
  const { fault, kind, path, times = 1, ms = 0, ...unknown } = (input ?? {}) as Fields;
  const sound =
    [...CALL_FAULTS, "refuse"].includes(fault as never) &&
    [undefined, "query", "mutation", "action"].includes(kind as never) &&
    ["undefined", "string"].includes(typeof path) &&
    typeof times === "number" &&
    typeof ms === "number" &&
    ms >= 0 &&
    ms <= MOST_MS &&
    Object.keys(unknown).length === 0;
  if (!sound) throw new Refusal(400, "BadFault", `This is no fault: ${JSON.stringify(input)}`);
  return { fault, kind, path, times, ms } as Fault;
}
