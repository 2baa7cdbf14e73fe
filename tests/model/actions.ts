/** Everything that can happen next. */

import { complete, stage } from "./handingin.ts";
import { leave, type Model, pulseOf } from "./model.ts";
import { OUTAGE_GAP, OUTAGE_HOLD } from "./protocol.ts";
import type { Step } from "./step.ts";
import { beat, cancel, cleanUp, EXPIRE, expire, pass, retry, sweep } from "./upkeep.ts";
import {
  askAgain,
  claim,
  claimUsed,
  fail,
  heartbeat,
  lateHeartbeat,
  release,
} from "./workercalls.ts";
import { IN_FLIGHT, jobsIn, rowsOf, type ScheduledRow, type Worker, type World } from "./world.ts";

export type Action = { name: string; run: (step: Step) => Promise<void> };

/** What can happen in *world*. */
export function actionsIn(world: World, model: Model): Action[] {
  const actions: Action[] = [];
  world.workers.forEach((worker, index) => {
    for (const { name, run } of workerActions(worker, index, model)) {
      actions.push({ name: `worker ${index + 1}: ${name}`, run });
    }
  });
  const steered = model.operator ? jobsIn(world.tables.documents) : [];
  for (const [index, job] of steered.entries()) {
    actions.push({ name: `operator: cancel job ${index + 1}`, run: (s) => cancel(s, job._id) });
    actions.push({ name: `operator: retry job ${index + 1}`, run: (s) => retry(s, job._id) });
  }
  return [...actions, ...timeActions(world, model)];
}

function workerActions(worker: Worker, index: number, model: Model): Action[] {
  const at = (name: string, run: Action["run"]): Action => ({ name, run });
  const usedUp = worker.used
    ? [at("claims again with its old token", (s) => claimUsed(s, worker.used))]
    : [];
  switch (worker.phase) {
    case "idle":
      return [
        at("claims", (s) => claim(s, index, model, false)),
        at("claims, no answer", (s) => claim(s, index, model, true)),
        ...usedUp,
      ];
    case "asking":
    case "dying":
      return [
        at("asks again with the same token", (s) => askAgain(s, index, model)),
        ...(worker.phase === "asking"
          ? [at("crashes and restarts", async (s: Step) => s.be(index, { phase: "dying" }))]
          : []),
      ];
    case "working":
      return [
        at("heartbeat", (s) => heartbeat(s, index, model)),
        ...(worker.beat > 0 ? [at("late heartbeat", (s) => lateHeartbeat(s, index))] : []),
        at("has a result on disk", async (s) => s.be(index, { phase: "finished" })),
        at("crashes and restarts", async (s) => s.be(index, { phase: "failing" })),
        ...model.kinds.flatMap((kind) => [
          at(`fail ${kind}`, (s) => fail(s, index, kind, model, false)),
          at(`fail ${kind}, no answer`, (s) => fail(s, index, kind, model, true)),
        ]),
        at("release", (s) => release(s, index, model, false)),
        at("release, no answer", (s) => release(s, index, model, true)),
        ...(model.drafts ? [at("stages a draft", (s) => stage(s, index, model, [0], true))] : []),
        ...(model.strays
          ? [at("gives up without a word", async (s: Step) => leave(s, index, model))]
          : []),
      ];
    case "finished":
      return [
        at("heartbeat gathering", (s) => heartbeat(s, index, model, "gathering")),
        at("complete", (s) => complete(s, index, model, false)),
        at("complete, no answer", (s) => complete(s, index, model, true)),
        ...Array.from({ length: model.documents }, (_, document) =>
          at(`stages document ${document + 1}`, (s) => stage(s, index, model, [document], false)),
        ),
      ];
    case "failing":
      return [at("repeats fail", (s) => fail(s, index, "retried", model, false))];
    case "releasing":
      return [at("repeats release", (s) => release(s, index, model, false))];
  }
}

function timeActions(world: World, model: Model): Action[] {
  const { documents } = world.tables;
  const jobs = jobsIn(documents);
  const actions: Action[] = [];
  for (const row of rowsOf<ScheduledRow>(documents, "_scheduled_functions")) {
    if (row.name !== EXPIRE || row.scheduledTime > world.now) continue;
    actions.push({ name: "scheduler: expire", run: (s) => expire(s, row) });
  }
  if (rowsOf<ScheduledRow>(documents, "_scheduled_functions").some((r) => r.name !== EXPIRE)) {
    actions.push({ name: "scheduler: clean-up", run: cleanUp });
  }
  if (jobs.some((job) => (job.expiresAt ?? world.now + 1) <= world.now)) {
    actions.push({ name: "cron: sweep", run: sweep });
  }
  const next = nextBoundary(world);
  if (next !== undefined) {
    actions.push({ name: `clock: ${next - world.now} ms`, run: (s) => pass(s, next, true) });
  }
  if (model.outages) {
    const gap = world.now + OUTAGE_GAP + model.times.grace;
    const pulse = pulseOf(world);
    if (pulse.at === world.now) {
      actions.push({ name: "outage: all stand still", run: (s) => pass(s, gap, false) });
    } else {
      actions.push({ name: "cron: pulse", run: beat });
    }
  }
  return actions;
}

/** The next time at which something is decided otherwise than now. */
function nextBoundary(world: World): number | undefined {
  const { documents } = world.tables;
  const times: number[] = [];
  for (const job of jobsIn(documents)) {
    if (job.status === "pending") times.push(job.runAt ?? 0);
    if (IN_FLIGHT.includes(job.status)) times.push(job.leaseUntil ?? 0, job.expiresAt ?? 0);
  }
  for (const row of rowsOf<ScheduledRow>(documents, "_scheduled_functions")) {
    times.push(row.scheduledTime);
  }
  const { resumedAt } = pulseOf(world);
  if (resumedAt !== undefined) times.push(resumedAt + OUTAGE_HOLD);
  const later = times.filter((time) => time > world.now);
  return later.length === 0 ? undefined : Math.min(...later);
}
