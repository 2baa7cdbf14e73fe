/** What workers do with a finished result, and with a token that was ended. */

import { documentsOf } from "./documents.ts";
import { type Model, NONE, worker } from "./model.ts";
import { CLASSES } from "./protocol.ts";
import { type Step, Violation } from "./step.ts";
import { claimUsed, endOf } from "./workercalls.ts";
import { rowsOf, type StagedRow, type Worker } from "./world.ts";

export async function stage(
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

export async function complete(
  step: Step,
  index: number,
  model: Model,
  noAnswer: boolean,
): Promise<void> {
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
