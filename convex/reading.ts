/** Reading as many rows as one call may: rows of an application can be a megabyte each. */

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
