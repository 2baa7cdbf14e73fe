/** Everything that can happen next, and what the protocol says must come of it. */

import { OPERATOR_KEY, WORKER_KEY } from "./deployment.ts";
import { documentsOf } from "./documents.ts";
import {
  afterExpiry,
  afterFailure,
  afterRelease,
  CLASSES,
  type Expected,
  FIRST_LEASE,
  GRACE,
  type Kind,
  LONGEST_HOLD,
  OUTAGE_GAP,
  OUTAGE_HOLD,
  type Standing,
} from "./protocol.ts";
import { type Step, Violation } from "./step.ts";
import {
  type Ghost,
  IDLE,
  IN_FLIGHT,
  type JobRow,
  jobsIn,
  rowsOf,
  type ScheduledRow,
  type StagedRow,
  type Worker,
  type World,
} from "./world.ts";

export type Model = {
  workers: number;
  jobs: number;
  documents: number;
  maxAttempts: number;
  leaseMs: number;
  /** Documents are also staged before they are final. */
  drafts: boolean;
  /** The pulse may stop, and come back. */
  outages: boolean;
  /** A worker may give up without a word, and its last token may be used again. */
  strays: boolean;
  /** Jobs are cancelled and retried. */
  operator: boolean;
  /** In which ways attempts fail. */
  kinds: Kind[];

  digestsOf: (token: string, count: number, isDraft?: boolean) => Promise<string[]>;
};

export type Action = { name: string; run: (step: Step) => Promise<void> };

const EXPIRE = "upkeep:expire";
const SWEEP = "upkeep:sweep";
const NONE: Partial<Ghost> = { holder: "", lease: 0, exclusive: 0 };

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
    const gap = world.now + OUTAGE_GAP + GRACE;
    const pulse = pulseOf(world);
    if (pulse.at === world.now) {
      actions.push({ name: "outage: all stand still", run: (s) => pass(s, gap, false) });
    } else {
      actions.push({ name: "cron: pulse", run: beat });
    }
  }
  return actions;
}

/** Time goes on; the pulse with it, unless everything stood still. */
async function pass(step: Step, to: number, withPulse: boolean): Promise<void> {
  const pulse = pulseOf(step.before);
  const isAlive = withPulse && pulse !== undefined && pulse.at === step.now;
  step.goTo(to);
  if (isAlive) step.answered("the pulse", await step.call("upkeep:beat", {}));
}

async function beat(step: Step): Promise<void> {
  step.answered("the pulse", await step.call("upkeep:beat", {}));
}

export function pulseOf(
  world: Pick<World, "tables"> | { tables: { documents: World["tables"]["documents"] } },
): { at: number; resumedAt?: number } {
  return rowsOf<{ at: number; resumedAt?: number }>(world.tables.documents, "pulse")[0] as never;
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

// Workers.

async function claim(step: Step, index: number, model: Model, noAnswer: boolean): Promise<void> {
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
async function askAgain(step: Step, index: number, model: Model): Promise<void> {
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
async function claimUsed(step: Step, token: string): Promise<void> {
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

async function heartbeat(
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
    exclusive: lease + (isGathering ? GRACE : 0),
  });
  if (status === "gathering" && !isGathering) throw new Violation("gathering was not written down");
}

/** A heartbeat that arrives after a newer one, or twice. */
async function lateHeartbeat(step: Step, index: number): Promise<void> {
  const { jobId, token } = worker(step, index);
  const before = step.taken();
  const call = await step.work("heartbeat", worker(step, index), { beat: 1 });
  if (holds(step, jobId, token)) step.answered("a late heartbeat", call);
  else step.lost("a late heartbeat of a lost lease", call);
  if ((step.job(jobId).beat ?? 0) >= 1) step.unchanged("a late heartbeat", before);
}

async function fail(
  step: Step,
  index: number,
  kind: Kind,
  model: Model,
  noAnswer: boolean,
): Promise<void> {
  const args = { class: CLASSES[kind], message: "it did not work" };
  const verdict = (standing: Standing) => afterFailure(kind, standing);
  await settle(step, index, { name: "fail", args, verdict, repeated: "failing" }, model, noAnswer);
}

async function release(step: Step, index: number, model: Model, noAnswer: boolean): Promise<void> {
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

async function stage(
  step: Step,
  index: number,
  model: Model,
  which: number[],
  isDraft: boolean,
): Promise<void> {
  const { jobId, token } = worker(step, index);
  const documents = documentsOf(token, model.documents, isDraft);
  const docs = which.map((document) => documents[document]);
  const call = await step.work("stageDocs", worker(step, index), { docs });
  if (step.ghost(jobId).holder === token) step.answered("stageDocs of the holder", call);
  else {
    step.lost("stageDocs of somebody else", call);
    endOf(step, index, model);
  }
}

async function complete(step: Step, index: number, model: Model, noAnswer: boolean): Promise<void> {
  const { jobId, token, attempt } = worker(step, index);
  const before = step.taken();
  const ghost = step.ghost(jobId);
  const digests = await model.digestsOf(token, model.documents);
  const missing = missingOf(step, jobId, attempt, digests);
  const args = { digests, message: "done" };
  const call = await step.work("complete", worker(step, index), args);
  if (ghost.result === token) {
    const { status } = step.answered("a repeated complete", call);
    if (status !== "completed") throw new Violation(`a repeated complete was answered ${status}`);
    step.unchanged("a repeated complete", before);
    if (!noAnswer) endOf(step, index, model);
  } else if (ghost.holder !== token) {
    step.lost("complete of somebody else", call);
    step.unchanged("a refused complete", before);
    if (!noAnswer) endOf(step, index, model);
  } else if (missing.length > 0) {
    if (call.refused?.code !== "not_staged" || String(call.refused.missing) !== String(missing)) {
      throw new Violation(`complete without document ${missing}: ${JSON.stringify(call)}`);
    }
    step.unchanged("a complete without its documents", before);
  } else {
    step.answered("complete of the holder", call);
    if (step.job(jobId).status !== "completed") throw new Violation("complete did not complete");
    step.know(jobId, { ...NONE, result: token });
    if (!noAnswer) endOf(step, index, model);
  }
}

function missingOf(step: Step, jobId: string, attempt: number, digests: string[]): number[] {
  const staged = rowsOf<StagedRow>(step.deployment.documents, "stagedDocs");
  const own = staged.filter((row) => row.jobId === jobId && row.attempt === attempt);
  const has = (digest: string, index: number) =>
    own.some((row) => row.index === index && row.digest === digest);
  return digests.flatMap((digest, index) => (has(digest, index) ? [] : [index]));
}

/** The worker is done with its token, and knows it. */
function endOf(step: Step, index: number, model: Model): void {
  const ended = worker(step, index);
  leave(step, index, model);
  if (ended.jobId !== "") step.ended = ended;
}

/** Whatever *ended*, or a network, sends once more with its token must change nothing. */
export async function callsOfEnded(step: Step, ended: Worker, model: Model): Promise<void> {
  const { jobId, token } = ended;
  const before = step.taken();
  await claimUsed(step, token);
  const { holder, result } = step.ghost(jobId);
  if (holder === token) return;
  step.lost("a heartbeat of an ended token", await step.work("heartbeat", ended, { beat: 1000 }));
  const docs = documentsOf(token, 1);
  step.lost("stageDocs of an ended token", await step.work("stageDocs", ended, { docs }));
  const { settled } = step.job(jobId);
  const isSettledBy = (name: string) => settled?.token === token && settled.call === name;
  const failure = { class: CLASSES.retried, message: "it did not work" };
  for (const [name, args] of [
    ["fail", failure],
    ["release", {}],
  ] as const) {
    const call = await step.work(name, ended, args);
    if (!isSettledBy(name)) step.lost(`${name} of an ended token`, call);
  }
  const digests = await model.digestsOf(token, model.documents);
  const call = await step.work("complete", ended, { digests, message: "done" });
  if (result !== token) step.lost("complete of an ended token", call);
  step.unchanged("an ended token", before);
}

function leave(step: Step, index: number, model: Model): void {
  const { token, jobId } = worker(step, index);
  step.be(index, { ...IDLE, used: model.strays && jobId !== "" ? token : "" });
}

/** Whether *token* was told that its lease on the job runs. */
function holds(step: Step, jobId: string, token: string): boolean {
  const { holder, lease } = step.ghost(jobId);
  return holder === token && step.now < lease;
}

function worker(step: Step, index: number): Worker {
  return step.workers[index] as Worker;
}

/** The first token that nobody knows. */
function newToken(step: Step): string {
  const known = new Set(step.workers.flatMap(({ token, used }) => [token, used]));
  for (const row of rowsOf<{ token: string }>(step.deployment.documents, "attempts")) {
    known.add(row.token);
  }
  for (const { settled, leaseToken } of jobsIn(step.deployment.documents)) {
    known.add(settled?.token ?? "");
    known.add(leaseToken ?? "");
  }
  for (const { result, holder } of Object.values(step.ghosts)) known.add(result).add(holder);
  for (let n = 1; ; n += 1) {
    const token = `token-${String(n).padStart(12, "0")}`;
    if (!known.has(token)) return token;
  }
}

function byTurn(one: JobRow, other: JobRow): number {
  return (
    (one.rank ?? 0) - (other.rank ?? 0) ||
    (one.runAt ?? 0) - (other.runAt ?? 0) ||
    one._creationTime - other._creationTime
  );
}

// Operators.

async function cancel(step: Step, jobId: string): Promise<void> {
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

async function retry(step: Step, jobId: string): Promise<void> {
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

// The deployment's own time.

async function expire(step: Step, row: ScheduledRow): Promise<void> {
  const [args] = row.args;
  const { heldSince } = args;
  const isHeld = heldSince === undefined || step.now - heldSince < LONGEST_HOLD;
  await putBack(step, EXPIRE, args as never, isHeld && isHeldNow(step));
  step.forget(row._id);
}

async function sweep(step: Step): Promise<void> {
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
async function cleanUp(step: Step): Promise<void> {
  for (const row of rowsOf<ScheduledRow>(step.deployment.documents, "_scheduled_functions")) {
    if (row.name === EXPIRE) continue;
    step.answered(row.name, await step.call(row.name, row.args[0] as never));
    step.forget(row._id);
  }
}
