/** What must hold in every world, and the pruning of what nobody reads again. */

import { contentOf } from "./documents.ts";
import { type Step, Violation } from "./step.ts";
import { type Ghost, IN_FLIGHT, type JobRow, jobsIn, rowsOf, type ScheduledRow } from "./world.ts";

const WEEK = 7 * 24 * 3600 * 1000;

type DocRow = { jobId: string; attempt?: number; content: string };

/** Refuse a world that the protocol forbids. */
export function judge(step: Step, documents: number): void {
  for (const job of jobsIn(step.deployment.documents)) {
    const ghost = step.ghost(job._id);
    judgeJob(step, job, ghost);
    judgeDocuments(step, job, ghost, documents);
  }
}

function judgeJob(step: Step, job: JobRow, ghost: Ghost): void {
  if ((job.attempts ?? 0) !== ghost.spent) {
    throw new Violation(`${job.attempts} attempts are spent; by the table it is ${ghost.spent}`);
  }
  if (ghost.holder !== "" && job.leaseToken !== ghost.holder) {
    throw new Violation("the holder of the latest claim cannot hand in any more");
  }
  if (ghost.holder === "" && job.leaseToken !== undefined) {
    throw new Violation("a token that was ended is still good");
  }
  if (ghost.exclusive > step.now && !IN_FLIGHT.includes(job.status)) {
    throw new Violation(`a job that somebody holds is ${job.status}`);
  }
  if ((ghost.result !== "") !== (job.status === "completed")) {
    throw new Violation(`a job ${ghost.result ? "with" : "without"} a result is ${job.status}`);
  }
  if (job.status === "pending" && (job.runAt === undefined || job.rank === undefined)) {
    throw new Violation("a pending job has no turn");
  }
  if (IN_FLIGHT.includes(job.status)) {
    // The second net needs no more than this.
    if (job.expiresAt === undefined) throw new Violation("nothing will ever put this job back");
    const calls = rowsOf<ScheduledRow>(step.deployment.documents, "_scheduled_functions");
    const isWatched = calls.some(
      ({ args: [{ jobId, attempt }] }) => jobId === job._id && attempt === job.attempt,
    );
    if (!isWatched) throw new Violation("no expiry is scheduled for a lease");
  }
}

/** Readers see the whole of one result, or nothing. */
function judgeDocuments(step: Step, job: JobRow, { result }: Ghost, documents: number): void {
  const rows = rowsOf<DocRow>(step.deployment.documents, "docs");
  const seen = rows.filter(({ jobId }) => jobId === job._id).map(({ content }) => content);
  const expected = result
    ? Array.from({ length: documents }, (_, index) => contentOf(result, index))
    : [];
  if (String(seen.sort()) !== String(expected)) {
    throw new Violation(`visible are [${seen}], handed in were [${expected}]`);
  }
}

/**
 * Remove what no function reads again, or reads in the same way whatever it is.
 *
 * An expiry of an earlier attempt is run once before it goes: it must change nothing.
 */
export async function prune(step: Step): Promise<void> {
  const { documents } = step.deployment;
  for (const job of jobsIn(documents)) {
    // Up to the fourth return nothing depends on their number.
    if (job.returns) documents[job._id] = { ...job, returns: 0 } as never;
    if (step.now - (job.firstClaimedAt ?? step.now) >= WEEK) {
      throw new Error("the model has come to the 7 days that it leaves out");
    }
  }
  for (const id in documents) {
    if (id.endsWith("cancellations")) delete documents[id];
  }
  for (const row of rowsOf<ScheduledRow>(documents, "_scheduled_functions")) {
    if (row.name !== "upkeep:expire") continue;
    const [{ jobId, attempt }] = row.args;
    const job = step.job(jobId);
    if (job.attempt === attempt && job.expiresAt !== undefined) continue;
    const before = step.taken();
    step.answered("an old expiry", await step.call(row.name, row.args[0] as never));
    step.unchanged("an old expiry", before);
    step.forget(row._id);
  }
}

/** Remove the claims whose tokens nobody has any more. */
export function forgetTokens(step: Step): void {
  const { documents } = step.deployment;
  const known = new Set(step.workers.flatMap(({ token, used }) => [token, used]));
  for (const { leaseToken } of jobsIn(documents)) known.add(leaseToken ?? "");
  for (const { _id, token } of rowsOf<{ _id: string; token: string }>(documents, "attempts")) {
    if (!known.has(token)) step.forget(_id);
  }
}
