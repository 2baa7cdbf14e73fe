/** One transition: a world is put into the deployment, something happens, and is judged. */

import type { Document } from "../../localconvex/internals.ts";
import {
  type Answer,
  clock,
  type ModelDeployment,
  type Outcome,
  WORKER_KEY,
} from "./deployment.ts";
import { type Ghost, type JobRow, jobsIn, type Worker, type World } from "./world.ts";

/** What the protocol forbids has happened. */
export class Violation extends Error {}

export class Step {
  readonly before: World;
  readonly deployment: ModelDeployment;
  readonly workers: Worker[];
  readonly ghosts: Record<string, Ghost>;
  now: number;
  /** A worker as it was before it gave up its token, in this step. */
  ended: Worker | undefined;

  constructor(deployment: ModelDeployment, before: World) {
    this.deployment = deployment;
    this.before = before;
    this.workers = [...before.workers];
    this.ghosts = { ...before.ghosts };
    this.now = before.now;
    clock.now = before.now;
    deployment.put(before.tables);
  }

  get tables(): { documents: Record<string, Document> } {
    return this.deployment;
  }

  /** The world as it is now. */
  after(): World {
    const { now, workers, ghosts } = this;
    return { now, tables: this.deployment.take(), workers, ghosts };
  }

  job(id: string): JobRow {
    return this.deployment.documents[id] as unknown as JobRow;
  }

  ghost(id: string): Ghost {
    return this.ghosts[id] as Ghost;
  }

  know(id: string, changes: Partial<Ghost>): void {
    this.ghosts[id] = { ...this.ghost(id), ...changes };
  }

  be(index: number, changes: Partial<Worker>): void {
    this.workers[index] = { ...(this.workers[index] as Worker), ...changes };
  }

  /** Time goes on. */
  goTo(now: number): void {
    this.now = now;
    clock.now = now;
  }

  /** Remove a row that nothing can come of any more. */
  forget(id: string): void {
    delete this.deployment.documents[id];
  }

  /** Call a function; whatever it does, a completed job stays and ordinals only grow. */
  async call(name: string, args: Record<string, unknown>): Promise<Outcome> {
    const jobs = jobsIn(this.deployment.documents);
    const outcome = await this.deployment.call(name, args).catch((error: unknown) => {
      throw new Violation(`${name} failed: ${error}`);
    });
    for (const before of jobs) {
      const after = this.job(before._id);
      if (after === before) continue;
      if (after === undefined) throw new Violation(`${name} deleted a job`);
      if (before.status === "completed") throw new Violation(`${name} changed a completed job`);
      if ((after.attempt ?? 0) < (before.attempt ?? 0)) {
        throw new Violation(
          `${name} turned the ordinal back from ${before.attempt} to ${after.attempt}`,
        );
      }
    }
    return outcome;
  }

  /** Call a worker's function with its token. */
  async work(name: string, worker: Worker, args: Record<string, unknown> = {}): Promise<Outcome> {
    const { jobId, token, attempt } = worker;
    const proof = { workerKey: WORKER_KEY, jobId, leaseToken: token, attempt };
    return await this.call(`queue:${name}`, { ...proof, ...args });
  }

  /** A call that must be answered. */
  answered(what: string, { value, refused }: Outcome): Answer {
    if (refused) throw new Violation(`${what} was refused: ${JSON.stringify(refused)}`);
    return value;
  }

  /** A call that must be refused because the job is not the caller's. */
  lost(what: string, { value, refused }: Outcome): void {
    if (value !== undefined) throw new Violation(`${what} was accepted`);
    if (refused?.code !== "lease_lost") {
      throw new Violation(`${what} was refused with ${JSON.stringify(refused)}`);
    }
  }

  /** Nothing was written since `documents` were taken. */
  unchanged(what: string, documents: Readonly<Record<string, unknown>>): void {
    const now = this.deployment.documents;
    const ids = new Set([...Object.keys(documents), ...Object.keys(now)]);
    for (const id of ids) {
      if (documents[id] !== now[id])
        throw new Violation(`${what} changed ${id.replace(/^0+/, "")}`);
    }
  }

  /** The documents as they are now, to compare with later. */
  taken(): Readonly<Record<string, unknown>> {
    return { ...this.deployment.documents };
  }
}
