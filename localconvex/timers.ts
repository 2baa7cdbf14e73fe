import { clearTimeout, setTimeout } from "node:timers";
import { ahead, now, setAhead } from "./clock.ts";
import { Crons } from "./crons.ts";
import type { Commit, Engine } from "./engine.ts";
import type { Modules } from "./functions.ts";
import type { Document } from "./internals.ts";
import { describe, event } from "./journal.ts";
import { tableOf } from "./reads.ts";
import { outside } from "./run.ts";
import { Scheduler } from "./scheduler.ts";

// A host that slept wakes with its clock ahead of its timers; so look at the clock this often.
const LONGEST_WAIT_MS = 10_000;

/** Runs what becomes due, in order of time: scheduled functions and cron jobs, one after another. */
export class Timers {
  readonly #engine: Engine;
  readonly #scheduler: Scheduler;
  readonly #crons: Crons;
  readonly #due = new Map<string, number>();
  readonly #underWay = new Set<Promise<void>>();
  #timer: NodeJS.Timeout | undefined;
  #turn: Promise<void> = Promise.resolve();

  constructor(engine: Engine, modules: Modules) {
    this.#engine = engine;
    this.#scheduler = new Scheduler(engine, modules);
    this.#crons = new Crons(engine, modules);
  }

  /** Take up what the last process left, what is overdue at once, and keep time from now on. */
  async start(): Promise<void> {
    await this.#scheduler.tidy();
    await this.#crons.deploy();
    for (const row of Object.values(this.#engine.db._documents)) this.#note(row._id, row);
    this.#engine.onCommit((commit) => this.#committed(commit));
    this.#arm();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  /**
   * Move the clock, and run what becomes due, before this returns.
   *
   * Each function runs with the clock at its own time, as if the time had really passed. With
   * *jump* the clock is moved at once and all that is overdue then runs late, as on a host that
   * was suspended.
   */
  async advance(ms: number, jump: boolean): Promise<void> {
    await this.#exclusively(async () => {
      const target = now() + ms;
      while (!jump && (this.#earliest()?.time ?? Infinity) <= target) {
        this.#moveTo(this.#earliest()?.time ?? target);
        await this.#runDue();
        await Promise.all(this.#underWay);
      }
      this.#moveTo(target);
      await this.#runDue();
      await Promise.all(this.#underWay);
    });
  }

  #committed(commit: Commit): void {
    for (const [id, row] of commit) this.#note(id, row);
    this.#arm();
  }

  #note(id: string, row: Document | null): void {
    const time = row === null ? undefined : dueTime(id, row);
    if (time === undefined) this.#due.delete(id);
    else this.#due.set(id, time);
  }

  #earliest(): { id: string; time: number } | undefined {
    let earliest: { id: string; time: number } | undefined;
    for (const [id, time] of this.#due) {
      if (!earliest || time < earliest.time) earliest = { id, time };
    }
    return earliest;
  }

  #arm(): void {
    clearTimeout(this.#timer);
    const next = this.#earliest();
    if (!next) return;
    const wait = Math.min(Math.max(0, Math.ceil(next.time - now())), LONGEST_WAIT_MS);
    this.#timer = outside(() => setTimeout(() => this.#exclusively(() => this.#runDue()), wait));
  }

  /** Run *work* alone: the timer and a moved clock never run the same entry side by side. */
  #exclusively(work: () => Promise<void>): Promise<void> {
    const turn = this.#turn.then(() => outside(work)).finally(() => this.#arm());
    this.#turn = turn.catch((error) => event("timers", describe(error)));
    return turn;
  }

  /** Run what is due. An action then goes on beside what comes after it, a mutation does not. */
  async #runDue(): Promise<void> {
    for (let next = this.#earliest(); next && next.time <= now(); next = this.#earliest()) {
      this.#due.delete(next.id);
      const row = this.#engine.document(next.id);
      if (!row) continue;
      const owner = tableOf(next.id) === "_crons" ? this.#crons : this.#scheduler;
      const work = owner.run(row).finally(() => this.#underWay.delete(work));
      this.#underWay.add(work);
      if (!owner.isAction(row)) await work;
    }
  }

  #moveTo(time: number): void {
    if (time <= now()) return;
    setAhead(ahead() + time - now());
    this.#engine.persistence.clockMoved();
  }
}

function dueTime(id: string, row: Document): number | undefined {
  const table = tableOf(id);
  if (table === "_crons") return Crons.dueTime(row);
  return table === "_scheduled_functions" ? Scheduler.dueTime(row) : undefined;
}
