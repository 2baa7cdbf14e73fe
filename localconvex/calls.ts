import { randomBytes } from "node:crypto";
import { convexToJson, getConvexSize, type JSONValue, type Value } from "convex/values";
import type { Engine } from "./engine.ts";
import { findFunction, type Kind, type Modules } from "./functions.ts";
import { describe, event } from "./journal.ts";
import type { Run } from "./run.ts";

const MAX_ARGUMENT_BYTES = 16 << 20;

/** Who calls: a client that holds the admin key may call internal functions too. */
export type Identity = "anyone" | "admin";

/** What a caller is told: a value, or the message and the data of an error. */
export type Reply = { value: Value; ts?: bigint } | { errorMessage: string; errorData?: JSONValue };

/** Calls functions for clients: what they may call, and how they are told of errors. */
export class Calls {
  readonly #engine: Engine;
  readonly #modules: Modules;

  constructor(engine: Engine, modules: Modules) {
    this.#engine = engine;
    this.#modules = modules;
  }

  /** Call one function. Whatever the function throws becomes part of the reply. */
  async call(kind: Kind, run: Run, identity: Identity): Promise<Reply> {
    if (kind === "query") return (await this.queries([run], identity)).replies[0] as Reply;
    const refusal = this.#refusal(kind, run, identity);
    if (refusal !== undefined) return failure(refusal);
    try {
      if (kind === "action") return { value: await this.#engine.action(run) };
      return (await this.#engine.mutation(run)) ?? { value: null };
    } catch (error) {
      return thrown(run, error);
    }
  }

  /** Call queries on one snapshot of the data, whose timestamp is returned. */
  async queries(runs: Run[], identity: Identity): Promise<{ ts: bigint; replies: Reply[] }> {
    const refusals = runs.map((run) => this.#refusal("query", run, identity));
    const allowed = runs.filter((_, index) => refusals[index] === undefined);
    const { ts, outcomes } = await this.#engine.queries(allowed);
    const replies = refusals.map((refusal, index) => {
      if (refusal !== undefined) return failure(refusal);
      const outcome = outcomes.shift();
      if (outcome && "value" in outcome) return outcome;
      return thrown(runs[index] as Run, outcome?.error);
    });
    return { ts, replies };
  }

  #refusal(kind: Kind, { path, args }: Run, identity: Identity): string | undefined {
    const found = findFunction(this.#modules, path);
    if (!found || (found.internal && identity !== "admin")) {
      return (
        `Could not find public function for '${path}'. ` +
        "Did you forget to run `npx convex dev` or `npx convex deploy`?"
      );
    }
    if (found.kind !== kind) {
      return `Trying to execute ${path} as ${kind}, but it is defined as ${found.kind}.`;
    }
    if (getConvexSize(args) > MAX_ARGUMENT_BYTES) {
      return `Arguments for ${path} are too large (maximum size 16 MiB)`;
    }
    return undefined;
  }
}

function failure(text: string): Reply {
  return { errorMessage: `[Request ID: ${randomBytes(8).toString("hex")}] Server Error\n${text}` };
}

function thrown(run: Run, error: unknown): Reply {
  if (isConvexError(error)) {
    const errorData = convexToJson(error.data);
    const text = typeof error.data === "string" ? error.data : JSON.stringify(errorData);
    return { ...failure(`Uncaught ConvexError: ${text}`), errorData } as Reply;
  }
  event(run.path, `failed: ${describe(error)}`);
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return failure(`Uncaught ${text}\n\n  Called by client`);
}

function isConvexError(error: unknown): error is { data: Value } {
  return typeof error === "object" && error !== null && Symbol.for("ConvexError") in error;
}
