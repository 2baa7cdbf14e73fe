/**
 * The name of a world that all worlds have which go on in the same way.
 *
 * Left out is what no function reads to decide: `updatedAt`, `startedAt`, `endedAt`, `stagedAt`,
 * `createdAt`, `lockedBy`, `workerId`, outcomes and notes, error texts; `firstClaimedAt`, up to the
 * 7 days that `prune` watches. Ordinals and tokens are named by who has them, times by how far they are
 * ahead: of what is past, only the order of turns matters. Worlds that differ in which worker is
 * which are the same. That nothing else was left out is tried by `search`: of worlds with one
 * name, pairs go on for a step and must come to the same names.
 */

import { contentOf } from "./documents.ts";
import { pulseOf } from "./model.ts";
import { LONGEST_HOLD } from "./protocol.ts";
import {
  type JobRow,
  jobsIn,
  rowsOf,
  type ScheduledRow,
  type StagedRow,
  type Worker,
  type World,
} from "./world.ts";

/** A world, or a step that has come to one. */
export type Named = Pick<World, "now" | "workers" | "ghosts"> & {
  tables: Pick<World["tables"], "documents">;
};

export function nameOf(world: Named): string {
  const orders =
    world.workers.length === 2
      ? [
          [0, 1],
          [1, 0],
        ]
      : [[0]];
  const names = orders.map((order) => namedBy(world, order));
  return names.sort()[0] as string;
}

/**
 * Whether a call of the worker with its token can do anything, or be answered.
 *
 * A token that was ended is refused whatever it asks for: how far its worker was does not matter.
 */
function canStillCall({ ghosts, tables }: Named, { token, jobId, phase }: Worker): boolean {
  const ghost = ghosts[jobId];
  if (ghost === undefined) return false;
  if (ghost.holder === token || ghost.result === token) return true;
  const { settled } = tables.documents[jobId] as unknown as JobRow;
  return settled?.token === token && (phase === "failing" || phase === "releasing");
}

function namedBy(world: Named, order: number[]): string {
  const { now } = world;
  const rows = world.tables.documents;
  const jobs = jobsIn(rows);
  const staged = rowsOf<StagedRow>(rows, "stagedDocs");
  const calls = rowsOf<ScheduledRow>(rows, "_scheduled_functions");
  const ahead = (time: number | undefined) =>
    time === undefined ? "-" : time <= now ? "p" : (time - now) / 1000;
  const owners = new Map<string, string>();
  for (const [place, index] of order.entries()) {
    const worker = world.workers[index] as Worker;
    if (worker.used) owners.set(worker.used, `u${place}`);
    if (canStillCall(world, worker)) owners.set(worker.token, `w${place}`);
  }
  const owner = (token: string | undefined) => (token ? (owners.get(token) ?? "?") : "-");
  const due = jobs.filter((job) => job.status === "pending" && (job.runAt ?? 0) <= now);
  const turns = [...new Set(due.map((job) => job.runAt ?? 0))].sort((a, b) => a - b);

  const parts: unknown[] = [];
  for (const job of jobs) {
    const ghost = world.ghosts[job._id] as World["ghosts"][string];
    const { status, settled, leaseToken, beat = 0, attempts } = job;
    parts.push(status, attempts, owner(leaseToken), leaseToken && beat > 0 ? 1 : 0);
    if (status === "pending") {
      const { runAt = 0 } = job;
      // A job that is put back now gets its turn behind those that are due since before.
      const turn = `t${turns.indexOf(runAt)}${jobs.length > 1 && runAt === now ? "now" : ""}`;
      parts.push(runAt <= now ? turn : ahead(runAt));
    }
    parts.push(
      ahead(job.leaseUntil),
      ahead(job.expiresAt),
      ahead(ghost.exclusive),
      ahead(ghost.lease),
    );
    parts.push(owner(ghost.result));
    parts.push(owners.has(settled?.token ?? "") ? `${owner(settled?.token)}${settled?.call}` : "");
    let own = "";
    let others = 0;
    for (const row of staged) {
      if (row.jobId !== job._id) continue;
      if (row.attempt !== job.attempt) others = 1;
      else
        own += `${row.index}${row.content === contentOf(job.leaseToken ?? ghost.result, row.index)}`;
    }
    // The rows of an attempt that was ended are never published: what they are does not matter.
    parts.push(leaseToken || status === "completed" ? own : own === "" ? "" : "s", others);
    const own_calls = calls.filter(({ args: [{ jobId }] }) => jobId === job._id);
    parts.push(
      own_calls
        .map(({ name, scheduledTime, args: [{ heldSince }] }) =>
          name === "upkeep:expire"
            ? `x${ahead(scheduledTime)}/${heldSince === undefined ? "" : Math.min(now - heldSince, LONGEST_HOLD)}`
            : name.slice(7),
        )
        .sort()
        .join(),
    );
  }
  for (const index of order) {
    const worker = world.workers[index] as Worker;
    if (worker.phase === "idle") parts.push("idle");
    else if (!canStillCall(world, worker)) parts.push("ended");
    else {
      const job = jobs.findIndex(({ _id }) => _id === worker.jobId);
      parts.push(worker.phase, job, worker.beat > 0 ? 1 : 0);
    }
  }
  const pulse = pulseOf(world);
  const gap = now - pulse.at;
  const resumed = pulse.resumedAt === undefined ? "-" : ahead(pulse.resumedAt + 120_000);
  parts.push(gap === 0 ? 0 : gap > 150_000 ? "gone" : gap, resumed === "p" ? "-" : resumed);
  return parts.join("|");
}
