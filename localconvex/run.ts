import { AsyncLocalStorage } from "node:async_hooks";
import type { Value } from "convex/values";

/** One call of a function, and what it leaves behind. */
export interface Run {
  /** The function, as `module:name`. */
  readonly path: string;
  readonly args: Record<string, Value>;
  /** The client's request that a mutation answers; a repeat gets the same answer again. */
  readonly request?: string;
  /** The tables it read; a commit to any other table cannot change its answer. */
  readonly tables: Set<string>;
  /** Documents read as Convex counts them, those that a filter dropped included. */
  documentsRead: number;
  /** What the function returned, from before its commit on. */
  value?: Value;
  /** When it was committed, in nanoseconds. */
  ts?: bigint;
}

/** The run that the present code belongs to, if a function call is under way. */
export const currentRun = new AsyncLocalStorage<Run>();

export function newRun(path: string, args: Record<string, Value>, request?: string): Run {
  return { path, args, request, tables: new Set(), documentsRead: 0 };
}

/**
 * Run work in the context in which this module was loaded, that is in none.
 *
 * Timers and promises inherit the context they are made in. Work that a commit sets off must not
 * inherit the transaction that committed: the engine would take it for a nested call of that one.
 */
export const outside = AsyncLocalStorage.snapshot();
