/** What an attempt hands in: documents that say whose they are. */

import type { DigestedDocument } from "../../convex/digests.ts";

export type Handed = DigestedDocument & { index: number };
type Digest = (document: DigestedDocument) => Promise<string>;

const digests = new Map<string, string>();

/** The documents of the attempt of *token*; a draft is what it staged before it was finished. */
export function documentsOf(token: string, count: number, isDraft = false): Handed[] {
  return Array.from({ length: count }, (_, index) => ({
    index,
    slug: `chapter-${index}`,
    title: `Chapter ${index}`,
    kind: "chapter",
    chapterIndex: index,
    content: contentOf(token, index, isDraft),
  }));
}

export function contentOf(token: string, index: number, isDraft = false): string {
  return `${isDraft ? "draft" : "whole"} ${index} of ${token}`;
}

/** Their digests, by the functions' own `digest`. */
export async function digestsOf(documents: Handed[], digest: Digest): Promise<string[]> {
  const found: string[] = [];
  for (const document of documents) {
    const known = digests.get(document.content) ?? (await digest(document));
    digests.set(document.content, known);
    found.push(known);
  }
  return found;
}
