import type { CronJob, Crons as Definitions } from "convex/server";
import { jsonToConvex } from "convex/values";
import { now } from "./clock.ts";
import { firstRun, nextRun } from "./cron.ts";
import type { Engine } from "./engine.ts";
import { findFunction, type Modules } from "./functions.ts";
import type { Document } from "./internals.ts";
import { describe, event } from "./journal.ts";
import { newRun, type Run } from "./run.ts";

const TABLE = "_crons";

type Row = Document & { cron: string; schedule: string; nextTime: number };

/**
 * The jobs of `crons.ts`: for each a row that says when it runs next.
 *
 * The row moves on in the commit of the mutation that the job runs, so that a run is neither lost
 * nor repeated when the process is killed.
 */
export class Crons {
  readonly #engine: Engine;
  readonly #modules: Modules;
  readonly #jobs: Record<string, CronJob>;

  constructor(engine: Engine, modules: Modules) {
    this.#engine = engine;
    this.#modules = modules;
    this.#jobs = (modules.get("crons")?.default as Definitions | undefined)?.crons ?? {};
  }

  /** Bring the rows in line with the jobs as they are defined now; kept ones keep their time. */
  async deploy(): Promise<void> {
    const { db } = this.#engine;
    const rows = this.#engine.documents(TABLE) as Row[];
    await this.#engine.transaction(() => {
      const kept = rows.filter((row) => this.#schedule(row.cron) === row.schedule);
      for (const row of rows) if (!kept.includes(row)) db.delete(TABLE, row._id);
      for (const [cron, job] of Object.entries(this.#jobs)) {
        if (kept.some((row) => row.cron === cron)) continue;
        const nextTime = firstRun(job.schedule, now());
        db.insert(TABLE, { cron, schedule: this.#schedule(cron), nextTime });
      }
    });
  }

  /** When the job of *row* runs next. */
  static dueTime(row: Document): number {
    return (row as Row).nextTime;
  }

  /** Whether the job of *row* is an action, not a mutation. */
  isAction(row: Document): boolean {
    const { name } = this.#jobs[(row as Row).cron] ?? {};
    return name !== undefined && findFunction(this.#modules, name)?.kind === "action";
  }

  /** Run the job of *row* once, and set the time of its next run whatever comes of it. */
  async run(row: Document): Promise<void> {
    const job = this.#jobs[(row as Row).cron];
    if (!job) return;
    const [args] = jsonToConvex(job.args) as [Run["args"]];
    const run = newRun(job.name, args);
    const moveOn = () => {
      const nextTime = nextRun(job.schedule, (row as Row).nextTime, now());
      this.#engine.db.patch(TABLE, row._id, { nextTime });
      return true;
    };
    try {
      if (this.isAction(row)) {
        await this.#engine.transaction(moveOn);
        await this.#engine.action(run);
      } else await this.#engine.mutation(run, moveOn);
    } catch (error) {
      event(job.name, `failed when run by cron "${(row as Row).cron}": ${describe(error)}`);
      if (this.#isStill(row as Row)) await this.#engine.transaction(moveOn);
    }
  }

  #schedule(cron: string): string | undefined {
    const job = this.#jobs[cron];
    return job && JSON.stringify(job.schedule);
  }

  #isStill({ _id, nextTime }: Row): boolean {
    return this.#engine.document(_id)?.nextTime === nextTime;
  }
}
