import { getConvexSize, type Value } from "convex/values";

const MIB = 1 << 20;
const MAX_DOCUMENT_BYTES = MIB;
const MAX_DEPTH = 16;
const MAX_ARRAY_LENGTH = 8192;
const MAX_FIELDS = 1024;

/**
 * Refuse a document that Convex would refuse for its size or shape.
 *
 * The engine has Convex's limits for whole transactions, but none for a single document.
 */
export function checkDocument(document: Value): void {
  checkShape(document, 1);
  const size = getConvexSize(document);
  if (size > MAX_DOCUMENT_BYTES) {
    throw new Error(`Value is too large (${(size / MIB).toFixed(2)} MiB > maximum size 1 MiB)`);
  }
}

function checkShape(value: Value | undefined, depth: number): void {
  if (value === null || typeof value !== "object" || value instanceof ArrayBuffer) return;
  if (depth > MAX_DEPTH) {
    throw new Error(`Value is too nested (maximum nesting depth ${MAX_DEPTH})`);
  }
  const [items, limit, what] = Array.isArray(value)
    ? [value, MAX_ARRAY_LENGTH, "Array length is too long"]
    : [Object.values(value), MAX_FIELDS, "Object has too many fields"];
  if (items.length > limit) throw new Error(`${what} (${items.length} > maximum ${limit})`);
  for (const item of items) checkShape(item as Value | undefined, depth + 1);
}
