/** What workers do: claim, renew, give up. */

import { WORKER_KEY } from "./deployment.ts";
import { holds, leave, type Model, NONE, newToken, worker } from "./model.ts";
import {
  afterFailure,
  afterRelease,
  CLASSES,
  type Expected,
  FIRST_LEASE,
  type Kind,
  type Standing,
} from "./protocol.ts";
import { type Step, Violation } from "./step.ts";
import { IDLE, type JobRow, jobsIn, type Worker } from "./world.ts";

export async function claim(
  step: Step,
  index: number,
  model: Model,
  noAnswer: boolean,
): Promise<void> {
  const token = newToken(step);
  const answer = await claimWith(step, token, index, model);
  const due = jobsIn(step.before.tables.documents)
    .filter((job) => job.status === "pending" && (job.runAt ?? 0) <= step.now)
    .sort(byTurn);
  if ("lost" in answer) throw new Violation("a new token has lost its lease");
  const best = due[0];
  if (best === undefined) {
    if (answer.job !== null) throw new Violation("a job was given away before its time");
  } else {
    if (answer.job === null) throw new Violation("a job is due, and a claim does not get it");
    if (answer.job.id !== best._id)
      throw new Violation("a claim did not get the job whose turn it is");
    granted(step, best, token, model);
  }
  if (noAnswer) step.be(index, { ...IDLE, phase: "asking", token, ...heldJob(answer) });
  else if (best !== undefined) {
    step.be(index, { ...IDLE, phase: "working", token, ...heldJob(answer) });
  }
}

/** What is written down when *job* is given to the claim of *token*. */
function granted(step: Step, job: JobRow, token: string, model: Model): void {
  const ghost = step.ghost(job._id);
  if (ghost.exclusive > step.now) {
    throw new Violation("a job was given away that somebody still holds");
  }
  const row = step.job(job._id);
  if (row.attempt !== (job.attempt ?? 0) + 1)
    throw new Violation("the ordinal did not grow by one");
  const lease = step.now + Math.min(model.leaseMs, FIRST_LEASE);
  step.know(job._id, { holder: token, lease, exclusive: lease });
}

async function claimWith(step: Step, leaseToken: string, index: number, model: Model) {
  const names = { workerId: "model", instance: `model-${index}` };
  const call = { workerKey: WORKER_KEY, ...names, leaseToken, leaseMs: model.leaseMs };
  return step.answered("a claim", await step.call("queue:claim", call));
}

function heldJob(answer: { job?: { id: string; attempt: number } | null }): Partial<Worker> {
  return answer.job ? { jobId: answer.job.id, attempt: answer.job.attempt } : {};
}

/** Ask again with the token of a claim whose answer was lost. */
export async function askAgain(step: Step, index: number, model: Model): Promise<void> {
  const { token, phase, jobId, attempt } = worker(step, index);
  if (jobId === "") {
    // It was carried out and found nothing: the same token may still get what is there now.
    step.be(index, { ...IDLE });
    return;
  }
  const before = step.taken();
  const answer = await claimWith(step, token, index, model);
  step.unchanged("a repeated claim", before);
  const ghost = step.ghost(jobId);
  if (ghost.holder !== token || ghost.lease <= step.now) {
    if (!answer.lost) throw new Violation("a claim whose lease is over was answered with a job");
    return endOf(step, index, model);
  }
  if (answer.job?.id !== jobId || answer.job.attempt !== attempt) {
    throw new Violation("a repeated claim did not get the same job");
  }
  step.be(index, { phase: phase === "dying" ? "failing" : "working" });
}

/** A token that was used before never gets a job. */
export async function claimUsed(step: Step, token: string): Promise<void> {
  const owner = jobsIn(step.deployment.documents).find(
    (job) => step.ghost(job._id).holder === token,
  );
  const before = step.taken();
  const call = { workerId: "model", instance: "model", leaseToken: token, leaseMs: 60_000 };
  const answer = step.answered(
    "a claim with a used token",
    await step.call("queue:claim", { workerKey: WORKER_KEY, ...call }),
  );
  step.unchanged("a claim with a used token", before);
  const isHeld = owner !== undefined && step.ghost(owner._id).lease > step.now;
  if (isHeld ? answer.job?.id !== owner._id : !answer.lost) {
    throw new Violation(`a claim with a used token was answered ${JSON.stringify(answer)}`);
  }
}

export async function heartbeat(
  step: Step,
  index: number,
  model: Model,
  status?: "gathering",
): Promise<void> {
  const { jobId, token, beat } = worker(step, index);
  const before = step.taken();
  const ghost = step.ghost(jobId);
  const wasSpent = (step.job(jobId).beat ?? 0) > 0;
  step.be(index, { beat: beat + 1 });
  const call = await step.work("heartbeat", worker(step, index), { beat: beat + 1, status });
  if (!holds(step, jobId, token)) {
    step.lost("a heartbeat of a lost lease", call);
    step.unchanged("a refused heartbeat", before);
    if (status === undefined) endOf(step, index, model);
    return;
  }
  const { leaseUntil } = step.answered("a heartbeat under a lease", call);
  const lease = Math.max(ghost.lease, step.now + model.leaseMs);
  if (leaseUntil !== lease)
    throw new Violation(`a heartbeat made the lease ${leaseUntil - step.now}`);
  const isGathering = step.job(jobId).status === "gathering";
  step.know(jobId, {
    spent: ghost.spent + (wasSpent ? 0 : 1),
    lease,
    exclusive: lease + (isGathering ? model.times.grace : 0),
  });
  if (status === "gathering" && !isGathering) throw new Violation("gathering was not written down");
}

/** A heartbeat that arrives after a newer one, or twice. */
export async function lateHeartbeat(step: Step, index: number): Promise<void> {
  const { jobId, token } = worker(step, index);
  const before = step.taken();
  const call = await step.work("heartbeat", worker(step, index), { beat: 1 });
  if (holds(step, jobId, token)) step.answered("a late heartbeat", call);
  else step.lost("a late heartbeat of a lost lease", call);
  if ((step.job(jobId).beat ?? 0) >= 1) step.unchanged("a late heartbeat", before);
}

export async function fail(
  step: Step,
  index: number,
  kind: Kind,
  model: Model,
  noAnswer: boolean,
): Promise<void> {
  const args = { class: CLASSES[kind], message: "it did not work" };
  const verdict = (standing: Standing) => afterFailure(kind, standing, model.times.delay);
  await settle(step, index, { name: "fail", args, verdict, repeated: "failing" }, model, noAnswer);
}

export async function release(
  step: Step,
  index: number,
  model: Model,
  noAnswer: boolean,
): Promise<void> {
  const call = { name: "release", args: {}, verdict: afterRelease, repeated: "releasing" } as const;
  await settle(step, index, call, model, noAnswer);
}

type Settling = {
  name: "fail" | "release";
  args: Record<string, unknown>;
  verdict: (standing: Standing) => Expected;
  repeated: Worker["phase"];
};

/** End an attempt without a result, by the table of verdicts. */
async function settle(
  step: Step,
  index: number,
  { name, args, verdict, repeated }: Settling,
  model: Model,
  noAnswer: boolean,
): Promise<void> {
  const { jobId, token } = worker(step, index);
  const before = step.taken();
  const job = step.job(jobId);
  const { settled } = job;
  const call = await step.work(name, worker(step, index), args);
  if (settled?.token === token && settled.call === name) {
    const { now: _, ...answer } = step.answered(`a repeated ${name}`, call);
    step.unchanged(`a repeated ${name}`, before);
    const isSame = Object.entries(settled.answer).every(([key, value]) => answer[key] === value);
    if (!isSame) throw new Violation(`a repeated ${name} was answered otherwise`);
    return endOf(step, index, model);
  }
  if (!holds(step, jobId, token)) {
    step.lost(`${name} without a lease`, call);
    step.unchanged(`a refused ${name}`, before);
    return endOf(step, index, model);
  }
  const { status } = step.answered(`${name} under a lease`, call);
  const expected = verdict(standingOf(step, job, model));
  if (status !== expected.status) throw new Violation(`${name} left the job ${status}`);
  if (status === "pending" && step.job(jobId).runAt !== step.now + expected.delay) {
    throw new Violation(`${name} put the job off by ${(step.job(jobId).runAt ?? 0) - step.now} ms`);
  }
  step.know(jobId, { ...NONE, spent: expected.spent });
  if (noAnswer) step.be(index, { phase: repeated });
  else endOf(step, index, model);
}

function standingOf(step: Step, job: JobRow, model: Model): Standing {
  const { spent } = step.ghost(job._id);
  return { spent, maxAttempts: model.maxAttempts, wasSpent: (job.beat ?? 0) > 0 };
}

/** The worker is done with its token, and knows it. */
export function endOf(step: Step, index: number, model: Model): void {
  const ended = worker(step, index);
  leave(step, index, model);
  if (ended.jobId !== "") step.ended = ended;
}

function byTurn(one: JobRow, other: JobRow): number {
  return (
    (one.rank ?? 0) - (other.rank ?? 0) ||
    (one.runAt ?? 0) - (other.runAt ?? 0) ||
    one._creationTime - other._creationTime
  );
}
