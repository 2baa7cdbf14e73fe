/** SHA-256, of texts and of documents. */

/** The fields of a document that its digest covers. */
export type DigestedDocument = {
  slug: string;
  title: string;
  kind: string;
  chapterIndex: number;
  content: string;
  fileSha256?: string;
};

/** The hexadecimal SHA-256 of `text` in UTF-8. */
export async function sha256Hex(text: string): Promise<string> {
  return hex(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
}

/**
 * The digest by which worker and deployment know a document.
 *
 * Each field carries its length, so that no two documents read the same.
 */
export async function documentDigest(document: DigestedDocument): Promise<string> {
  const { slug, title, kind, chapterIndex, content, fileSha256 = "" } = document;
  const fields = [slug, title, kind, String(chapterIndex), content, fileSha256];
  return await sha256Hex(fields.map((field) => `${utf8Length(field)}:${field}`).join(""));
}

/**
 * The checksum of a stored file in lower-case hexadecimal.
 *
 * Convex documents base 16; backends also answer base 64 of the same 32 bytes.
 */
export function storedSha256(sha256: string): string {
  if (/^[0-9a-f]{64}$/i.test(sha256)) return sha256.toLowerCase();
  return hex(Uint8Array.from(atob(sha256), (character) => character.charCodeAt(0)).buffer);
}

/** How many bytes `text` takes in UTF-8. */
export function utf8Length(text: string): number {
  return new TextEncoder().encode(text).length;
}

function hex(bytes: ArrayBuffer): string {
  return Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
