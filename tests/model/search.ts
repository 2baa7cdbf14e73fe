/** Breadth first through every world that can come about. */

import { createHash, hash } from "node:crypto";
import type { Modules } from "../../localconvex/functions.ts";
import { type Action, actionsIn } from "./actions.ts";
import { nameOf } from "./canonical.ts";
import { clock, ModelDeployment, OPERATOR_KEY, WORKER_KEY } from "./deployment.ts";
import { digestsOf, documentsOf } from "./documents.ts";
import { callsOfEnded } from "./handingin.ts";
import { forgetTokens, judge, prune } from "./judge.ts";
import type { Model } from "./model.ts";
import { KINDS, TIMES } from "./protocol.ts";
import { Step, Violation } from "./step.ts";
import { type Ghost, IDLE, jobsIn, type Worker, type World } from "./world.ts";

export type Bounds = Omit<Model, "digestsOf"> & { depth?: number; seconds?: number };

export type Found = {
  worlds: number;
  transitions: number;
  depth: number;
  seconds: number;
  /** Whether every world that can come about was seen. */
  closed: boolean;
  /** Pairs of worlds with one name that were seen to go on alike. */
  pairs: number;
  violation?: { message: string; trace: string[] };
};

const START = Date.UTC(2026, 0, 5);
const PAIRS = 300;
/** Of the worlds, one in so many is compared with others of its name. */
const COMPARED = 64;

type Node = { world: World; id: number };

/** Search *modules* from an empty queue with its jobs just put in. */
export async function search(modules: Modules, bounds: Bounds): Promise<Found> {
  const restore = pin();
  try {
    return await searchPinned(modules, bounds);
  } finally {
    restore();
  }
}

async function searchPinned(modules: Modules, bounds: Bounds): Promise<Found> {
  const began = performance.now();
  const model = modelOf(modules, bounds);
  const deployment = await ModelDeployment.open(modules);
  const first = await firstWorld(deployment, model);
  const parents: number[] = [-1];
  const names: string[] = [""];
  const seen = new Map<string, number>([[hashed(nameOf(first)), 0]]);
  const kept = new Map<string, World>();
  const ended = new Set<string>();
  const pairs: [World, World][] = [];
  const found: Found = { worlds: 1, transitions: 0, depth: 0, seconds: 0, closed: false, pairs: 0 };
  const elapsed = () => (performance.now() - began) / 1000;
  let frontier: Node[] = [{ world: first, id: 0 }];

  while (frontier.length > 0 && found.depth < (bounds.depth ?? Number.POSITIVE_INFINITY)) {
    const next: Node[] = [];
    for (const { world, id } of frontier) {
      if (elapsed() > (bounds.seconds ?? Number.POSITIVE_INFINITY))
        return { ...found, seconds: elapsed() };
      for (const action of actionsIn(world, model)) {
        found.transitions += 1;
        let name: string;
        let step: Step;
        try {
          step = await taken(deployment, world, action, model);
          name = hashed(nameOf(step));
          if (step.ended) await tryEnded(step, step.ended, name, ended, model);
        } catch (error) {
          if (!(error instanceof Violation)) throw error;
          const trace = [...traceTo(id, parents, names), action.name];
          return { ...found, seconds: elapsed(), violation: { message: error.message, trace } };
        }
        const twin = kept.get(name);
        if (seen.has(name) && (twin === undefined || pairs.length >= PAIRS)) continue;
        forgetTokens(step);
        const after = step.after();
        if (twin) pairs.push([twin, after]);
        if (seen.has(name)) continue;
        if (parents.length % COMPARED === 0) kept.set(name, after);
        seen.set(name, parents.length);
        next.push({ world: after, id: parents.length });
        parents.push(id);
        names.push(action.name);
      }
    }

    found.depth += 1;
    found.worlds = parents.length;
    frontier = next;
  }
  found.closed = frontier.length === 0;
  for (const [one, other] of pairs) {
    const [left, right] = [
      await futures(deployment, one, model),
      await futures(deployment, other, model),
    ];
    if (left !== right)
      throw new Error(`two worlds of one name go on differently:\n${left}\n${right}`);
  }
  return { ...found, pairs: pairs.length, seconds: elapsed() };
}

/** Go *steps* at random, with everything that the model has; *watch* is told of each call. */
export async function walk(
  modules: Modules,
  steps: number,
  watch: ModelDeployment["watch"],
): Promise<void> {
  const restore = pin();
  try {
    const all = {
      drafts: true,
      outages: true,
      strays: true,
      operator: true,
      kinds: KINDS,
      times: TIMES,
    };
    const size = { workers: 2, jobs: 2, documents: 2, maxAttempts: 2, leaseMs: 60_000 };
    const model = modelOf(modules, { ...size, ...all });
    const deployment = await ModelDeployment.open(modules);
    const first = await firstWorld(deployment, model);
    deployment.watch = watch;
    let world = first;
    let chance = 1;
    for (let n = 0; n < steps; n += 1) {
      const actions = actionsIn(world, model);
      chance = (chance * 48271) % 2147483647;
      const step = await taken(
        deployment,
        world,
        actions[chance % actions.length] as Action,
        model,
      );
      forgetTokens(step);
      world = step.after();
      // Where nothing can happen any more it begins again.
      if (Object.values(world.ghosts).every(({ result }) => result !== "")) world = first;
    }
  } finally {
    restore();
  }
}

/** The world that *action* leads to. */
async function taken(
  deployment: ModelDeployment,
  world: World,
  action: Action,
  model: Model,
): Promise<Step> {
  const step = new Step(deployment, world);
  await action.run(step);
  await prune(step);
  judge(step, model.documents);
  return step;
}

/** Try the calls of a token that was just given up, once in each world in which one was. */
async function tryEnded(
  step: Step,
  worker: Worker,
  name: string,
  tried: Set<string>,
  model: Model,
): Promise<void> {
  const { settled, leaseToken, attempt } = step.job(worker.jobId);
  const { token } = worker;
  const isLatest = attempt === worker.attempt;
  const call = settled?.token === token ? settled.call : "";
  const key = `${name} ${call} ${isLatest} ${leaseToken === token}`;
  if (tried.has(key)) return;
  tried.add(key);
  await callsOfEnded(step, worker, model);
}

async function futures(deployment: ModelDeployment, world: World, model: Model): Promise<string> {
  const own = nameOf(world);
  const names = new Set<string>([own]);
  for (const action of actionsIn(world, model)) {
    const step = await taken(deployment, world, action, model);
    names.add(nameOf(step));
  }
  return [...names].sort().join("\n");
}

async function firstWorld(deployment: ModelDeployment, model: Model): Promise<World> {
  clock.now = START;
  await deployment.call("upkeep:beat", {});
  for (let n = 0; n < model.jobs; n += 1) {
    const job = { prompt: "Describe it.", cloneUrl: "https://example.org/a.git" };
    const { maxAttempts } = model;
    await deployment.call("jobs:enqueue", { operatorKey: OPERATOR_KEY, ...job, maxAttempts });
  }
  const ghost: Ghost = { spent: 0, holder: "", lease: 0, exclusive: 0, result: "" };
  const tables = deployment.take();
  const ghosts = Object.fromEntries(jobsIn(tables.documents).map(({ _id }) => [_id, ghost]));
  const workers = Array.from({ length: model.workers }, () => IDLE);
  return { now: START, tables, workers, ghosts };
}

function modelOf(modules: Modules, bounds: Bounds): Model {
  const { documentDigest } = modules.get("digests") as { documentDigest: never };
  return {
    ...bounds,
    digestsOf: (token, count, isDraft) =>
      digestsOf(documentsOf(token, count, isDraft), documentDigest),
  };
}

function traceTo(id: number, parents: number[], names: string[]): string[] {
  const trace: string[] = [];
  for (let at = id; at > 0; at = parents[at] as number) trace.unshift(names[at] as string);
  return trace;
}

function hashed(name: string): string {
  return hash("sha1", name, "base64");
}

/** Hold still what functions read besides the tables: clock, chance, keys. The way back. */
export function pin(): () => void {
  const { now } = Date;
  const { random } = Math;
  const { subtle } = globalThis.crypto;
  const digest = subtle.digest;
  const known = new Map<string, ArrayBuffer>();
  const { stackTraceLimit } = Error;
  // Most calls are refused, and nobody looks where.
  Error.stackTraceLimit = 0;
  Date.now = () => clock.now;
  Math.random = () => 0;
  // The same text has the same digest: it need not leave the thread each time.
  subtle.digest = (async (algorithm: string, bytes: Uint8Array) => {
    const text = Buffer.from(bytes).toString("latin1");
    const found = known.get(text) ?? (await digest.call(subtle, algorithm, bytes as never));
    known.set(text, found);
    return found;
  }) as never;
  process.env.FONDATION_WORKER_KEY_SHA256 = sha256(WORKER_KEY);
  process.env.FONDATION_OPERATOR_KEY_SHA256 = sha256(OPERATOR_KEY);
  return () => {
    Date.now = now;
    Math.random = random;
    subtle.digest = digest;
    Error.stackTraceLimit = stackTraceLimit;
  };
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
