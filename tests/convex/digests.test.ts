/** Digests, against vectors that the worker's tests read as well. */

import { expect, test } from "vitest";
import { documentDigest, sha256Hex, storedSha256, utf8Length } from "../../convex/digests";
import vectors from "../vectors/digests.json" with { type: "json" };

test.each(vectors)("the digest of $document.slug is that of the vector", async (vector) => {
  expect(await documentDigest(vector.document)).toBe(vector.digest);
});

test("texts that move from field to field change the digest", async () => {
  const document = { slug: "a", title: "bc", kind: "toc", chapterIndex: 0, content: "" };
  const moved = { ...document, slug: "ab", title: "c" };
  expect(await documentDigest(moved)).not.toBe(await documentDigest(document));
});

test("a stored file's checksum reads the same in base 16 and base 64", async () => {
  const hex = await sha256Hex("a file");
  expect(storedSha256(hex)).toBe(hex);
  expect(storedSha256(hex.toUpperCase())).toBe(hex);
  expect(storedSha256(Buffer.from(hex, "hex").toString("base64"))).toBe(hex);
});

test("lengths are those in UTF-8", () => {
  expect(["", "a", "é", "概", "🦀"].map(utf8Length)).toEqual([0, 1, 2, 3, 4]);
});
