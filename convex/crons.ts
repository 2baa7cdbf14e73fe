/**
 * The crons of a deployment of its own.
 *
 * Convex reads only the top-level `crons.ts`: an application calls `addFondationCrons` in its own.
 */

import { type Crons, cronJobs } from "convex/server";
import { beat, retention, sweep } from "./scheduling";

/** Add what the queue needs to an application's crons. */
export function addFondationCrons(crons: Crons): void {
  crons.interval("fondation: sweep leases", { minutes: 1 }, sweep, {});
  crons.interval("fondation: pulse", { minutes: 1 }, beat, {});
  crons.interval("fondation: retention", { hours: 1 }, retention, {});
}

const crons = cronJobs();
addFondationCrons(crons);

export default crons;
