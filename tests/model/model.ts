/** The parameters of a search, and what all transitions have in common. */

import type { Kind, Times } from "./protocol.ts";
import type { Step } from "./step.ts";
import { type Ghost, IDLE, jobsIn, rowsOf, type Worker, type World } from "./world.ts";

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
  /** What the functions were given by `changesFor`. */
  times: Times;
  /** By the functions' own digest. */
  digestsOf: (token: string, count: number, isDraft?: boolean) => Promise<string[]>;
};

/** What nobody was told anything about. */
export const NONE: Partial<Ghost> = { holder: "", lease: 0, exclusive: 0 };

export function pulseOf(world: { tables: { documents: World["tables"]["documents"] } }): {
  at: number;
  resumedAt?: number;
} {
  return rowsOf<{ at: number; resumedAt?: number }>(world.tables.documents, "pulse")[0] as never;
}

/** The worker knows its token no more. */
export function leave(step: Step, index: number, model: Model): void {
  const { token, jobId } = worker(step, index);
  step.be(index, { ...IDLE, used: model.strays && jobId !== "" ? token : "" });
}

/** Whether *token* was told that its lease on the job runs. */
export function holds(step: Step, jobId: string, token: string): boolean {
  const { holder, lease } = step.ghost(jobId);
  return holder === token && step.now < lease;
}

/** The worker as it is now, in the midst of the step. */
export function worker(step: Step, index: number): Worker {
  return step.workers[index] as Worker;
}

/** The first token that nobody knows. */
export function newToken(step: Step): string {
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
