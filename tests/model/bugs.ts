/** What could be wrong with the functions: each one exact replacement, which the search must find. */

import type { Change } from "./functions.ts";
import type { Bounds } from "./search.ts";

export type Bug = Change & { bounds?: Partial<Bounds> };

const UNCHECKED = 'await ctx.db.get(ctx.db.normalizeId("jobs", args.jobId)!)';
const COMPLETES = "const job = await handInBy(ctx, args);\n    await publish";
const FAILED = `const earlier = await earlierAnswer(ctx, args, "fail");
    if (earlier !== null) return { ...earlier, now };`;

export const BUGS: Record<string, Bug> = {
  "complete looks neither at token nor at attempt": {
    module: "queue",
    from: COMPLETES,
    to: `const found = ${UNCHECKED};
    const job = { ...found, leaseToken: args.leaseToken };
    await publish`,
  },
  "the grace is ignored": {
    module: "leases",
    from: 'status === "gathering" ? leaseUntil + GATHERING_GRACE : leaseUntil',
    to: "leaseUntil",
  },
  "a moved lease is ignored": {
    module: "upkeep",
    from: "if (job.expiresAt > now) {",
    to: "if (false) {",
    bounds: { leaseMs: 60_000 },
  },
  "another attempt's staged rows are published": {
    module: "handin",
    from: `.withIndex("by_job", (q) => q.eq("jobId", job._id).eq("attempt", job.attempt))
    .take(`,
    to: `.withIndex("by_job", (q) => q.eq("jobId", job._id))
    .take(`,
  },
  "the digest is unchecked": {
    module: "handin",
    from: "byIndex.get(i)?.digest === digest ? [] : [i]",
    to: "byIndex.has(i) ? [] : [i]",
    bounds: { drafts: true },
  },
  "a repeated fail spends twice": {
    module: "queue",
    from: FAILED,
    to: `const earlier = await earlierAnswer(ctx, args, "fail");
    if (earlier !== null) {
      const job = ${UNCHECKED};
      await ctx.db.patch(job._id, { attempts: (job.attempts ?? 0) + 1 });
      return { ...earlier, now };
    }`,
  },
  "release spends": {
    module: "verdicts",
    from: "standing.attempts - (standing.spent ? 1 : 0)",
    to: "standing.attempts",
  },
  "cancel keeps the token alive": {
    module: "steering",
    from: "const endedToken = { ...noLease, leaseToken: undefined };",
    to: "const endedToken = { ...noLease };",
  },
  "a stale heartbeat is applied": {
    module: "queue",
    from: "if (args.beat <= beat) return",
    to: "if (args.beat < 0) return",
  },
  "retry resets the ordinal": {
    module: "steering",
    from: "attempts: 0,",
    to: "attempts: 0, attempt: 0,",
  },
  "runAt is ignored": {
    module: "claiming",
    from: "head === null || dueAt(head) <= now",
    to: "true",
  },
  "a superseded token claims anew": {
    module: "claiming",
    from: "if (reason !== null) return lost(reason);",
    to: 'if (reason === "superseded") return null;\n  if (reason !== null) return lost(reason);',
  },
};
