/** The function that operators see workers with. */

import { operatorQuery } from "./access";
import { workersSeen } from "./roster";

/** The workers that told of themselves in the last days, the latest seen first. */
export const list = operatorQuery({
  args: {},
  handler: async (ctx) => ({ workers: await workersSeen(ctx), now: Date.now() }),
});
