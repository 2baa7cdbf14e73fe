/** Reading as many rows as one call may: rows of an application can be a megabyte each. */

import { convexToJson } from "convex/values";
import { utf8Length } from "./digests";
import type { Doc } from "./server";

/**
 * The first rows, at most `most` of them and no more once they have `bytes` bytes together.
 *
 * `more` says that there may be others.
 */
export async function takeWithin<Row>(
  rows: AsyncIterable<Row>,
  sizeOf: (row: Row) => number,
  { most, bytes }: { most: number; bytes: number },
): Promise<{ rows: Row[]; more: boolean }> {
  const taken: Row[] = [];
  let size = 0;
  for await (const row of rows) {
    taken.push(row);
    size += sizeOf(row);
    if (taken.length >= most || size >= bytes) return { rows: taken, more: true };
  }
  return { rows: taken, more: false };
}

/** About what a job takes of a call, all that a front end or an application put on it included. */
export function jobBytes(job: Doc<"jobs">): number {
  return utf8Length(JSON.stringify(convexToJson(job)));
}
