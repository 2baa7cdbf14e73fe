/** What operators do, and the deployment by itself. */

import { OPERATOR_KEY } from "./deployment.ts";
import { NONE, pulseOf } from "./model.ts";
import { afterExpiry, LONGEST_HOLD, OUTAGE_GAP, OUTAGE_HOLD } from "./protocol.ts";
import { type Step, Violation } from "./step.ts";
import { jobsIn, rowsOf, type ScheduledRow } from "./world.ts";

export const EXPIRE = "upkeep:expire";
const SWEEP = "upkeep:sweep";

export async function cancel(step: Step, jobId: string): Promise<void> {
  const { status } = step.job(jobId);
  const call = await step.call("jobs:cancel", { operatorKey: OPERATOR_KEY, jobId });
  const answer = step.answered("a cancel", call);
  if (["completed", "dead", "canceled"].includes(status)) {
    if (answer.already !== status) throw new Violation("an ended job was cancelled");
    return;
  }
  if (step.job(jobId).status !== "canceled") throw new Violation("a cancelled job goes on");
  const { holder } = step.ghost(jobId);
  const told = rowsOf<{ jobId: string; attempt: number }>(
    step.deployment.documents,
    "cancellations",
  ).some((row) => row.jobId === jobId && row.attempt === step.job(jobId).attempt);
  if (holder !== "" && !told) throw new Violation("the holder is not told of a cancellation");
  step.know(jobId, NONE);
}

export async function retry(step: Step, jobId: string): Promise<void> {
  const { status } = step.job(jobId);
  const call = await step.call("jobs:retry", { operatorKey: OPERATOR_KEY, jobId });
  if (!["pending", "dead", "canceled"].includes(status)) {
    if (call.refused?.code !== "invalid")
      throw new Violation(`a job that is ${status} was retried`);
    return;
  }
  step.answered("a retry", call);
  const row = step.job(jobId);
  if (row.status !== "pending" || row.runAt !== step.now) {
    throw new Violation("a retried job is not due");
  }
  step.know(jobId, { spent: 0 });
}

/** Time goes on; the pulse with it, unless everything stood still. */
export async function pass(step: Step, to: number, withPulse: boolean): Promise<void> {
  const pulse = pulseOf(step.before);
  const isAlive = withPulse && pulse !== undefined && pulse.at === step.now;
  step.goTo(to);
  if (isAlive) step.answered("the pulse", await step.call("upkeep:beat", {}));
}

export async function beat(step: Step): Promise<void> {
  step.answered("the pulse", await step.call("upkeep:beat", {}));
}

export async function expire(step: Step, row: ScheduledRow): Promise<void> {
  const [args] = row.args;
  const { heldSince } = args;
  const isHeld = heldSince === undefined || step.now - heldSince < LONGEST_HOLD;
  await putBack(step, EXPIRE, args as never, isHeld && isHeldNow(step));
  step.forget(row._id);
}

export async function sweep(step: Step): Promise<void> {
  const held = isHeldNow(step);
  await putBack(step, SWEEP, {}, held);
  if (held) return;
  const overdue = jobsIn(step.deployment.documents).some(
    (job) => (job.expiresAt ?? step.now + 1) <= step.now,
  );
  if (overdue) throw new Violation("a sweep left a job whose lease is over");
}

/** Whether an outage has just ended, so that its owners get their time. */
function isHeldNow(step: Step): boolean {
  const { at, resumedAt } = pulseOf(step.before);
  if (step.now - at > OUTAGE_GAP) return true;
  return resumedAt !== undefined && step.now < resumedAt + OUTAGE_HOLD;
}

async function putBack(
  step: Step,
  name: string,
  args: Record<string, unknown>,
  isHeld: boolean,
): Promise<void> {
  const jobs = jobsIn(step.deployment.documents);
  step.answered(name, await step.call(name, args));
  for (const before of jobs) {
    const after = step.job(before._id);
    if (after === before) continue;
    const ghost = step.ghost(before._id);
    if (ghost.exclusive > step.now) throw new Violation(`${name} took a job that somebody holds`);
    if (isHeld) throw new Violation(`${name} put a job back right after an outage`);
    const standing = {
      ...ghost,
      maxAttempts: after.maxAttempts ?? 0,
      wasSpent: (before.beat ?? 0) > 0,
    };
    const expected = afterExpiry(standing);
    if (after.status !== expected.status) throw new Violation(`${name} left a job ${after.status}`);
    step.know(before._id, { lease: 0, exclusive: 0 });
  }
}

/** What `complete` left to be deleted. */
export async function cleanUp(step: Step): Promise<void> {
  for (const row of rowsOf<ScheduledRow>(step.deployment.documents, "_scheduled_functions")) {
    if (row.name === EXPIRE) continue;
    step.answered(row.name, await step.call(row.name, row.args[0] as never));
    step.forget(row._id);
  }
}
