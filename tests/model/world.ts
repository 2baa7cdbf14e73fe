/** A state of the whole: the deployment, the workers, and what was promised to whom. */

import type { Doc } from "../../convex/server.ts";
import type { Document } from "../../localconvex/internals.ts";
import { type Tables, tableOf } from "./deployment.ts";

export type JobRow = Doc<"jobs">;
export type StagedRow = Doc<"stagedDocs">;
export type ScheduledRow = Document & {
  name: string;
  args: [{ jobId: string; attempt: number; heldSince?: number }];
  scheduledTime: number;
};

/**
 * What a worker is about, as far as its calls depend on it.
 *
 * `asking`: it claimed and has no answer; `dying` the same after a crash, to give the job up.
 * `failing`, `releasing`: it asked for the end of its attempt and has no answer. A worker that is
 * down is one that makes no call for a while, so there is no phase for it: what a crash changes
 * is what the worker does next.
 */
export type Phase = "idle" | "asking" | "dying" | "working" | "finished" | "failing" | "releasing";

export type Worker = {
  phase: Phase;
  /** Of the claim that it is about; empty when there is none. */
  token: string;
  jobId: string;
  attempt: number;
  /** The newest heartbeat that it sent. */
  beat: number;
  /** The token that it used before, if the model lets it come back. */
  used: string;
};

/** What the deployment has said about a job, by the protocol: what it must stand to. */
export type Ghost = {
  /** Attempts spent, by the table of verdicts. */
  spent: number;
  /** The token that may hand in a result, or empty. */
  holder: string;
  /** Until when `holder` was told that its lease runs. */
  lease: number;
  /** Until when nobody else may have the job: the lease, and the grace once a result was announced. */
  exclusive: number;
  /** The token whose result was taken, or empty. */
  result: string;
};

export type World = {
  now: number;
  tables: Tables;
  workers: readonly Worker[];
  ghosts: Readonly<Record<string, Ghost>>;
};

export const IDLE: Worker = {
  phase: "idle",
  token: "",
  jobId: "",
  attempt: 0,
  beat: 0,
  used: "",
};

export const IN_FLIGHT = ["claimed", "cloning", "analyzing", "gathering"];

type Rows = Record<string, Document>;

export function rowsOf<Row>(documents: Rows, table: string): Row[] {
  const rows: Document[] = [];
  for (const id in documents) {
    if (id.endsWith(table) && tableOf(id) === table) rows.push(documents[id] as Document);
  }
  return rows as Row[];
}

export function jobsIn(documents: Rows): JobRow[] {
  return rowsOf<JobRow>(documents, "jobs");
}

/** The scheduled calls that can still do something, by what they call. */
export function scheduledIn(documents: Rows, name: string): ScheduledRow[] {
  return rowsOf<ScheduledRow>(documents, "_scheduled_functions").filter((row) => row.name === name);
}
