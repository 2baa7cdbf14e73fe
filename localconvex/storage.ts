import { createHash, createHmac, randomBytes, randomUUID, timingSafeEqual } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { now } from "./clock.ts";
import type { Commit, Engine } from "./engine.ts";
import { syncDirectory } from "./log.ts";
import { tableOf } from "./reads.ts";
import { Refusal } from "./refusal.ts";

const UPLOAD_URL_VALID_MS = 3600 * 1000;
export const MAX_FILE_BYTES = 256 << 20;

/** A file as the table `_storage` describes it. */
export interface StoredFile {
  path: string;
  size: number;
  sha256: string;
  contentType: string | null;
}

/** File storage: bytes in a directory, one row of `_storage` for each file. */
export class Storage {
  readonly #engine: Engine;
  readonly #directory: string;
  readonly #secret: Buffer;
  /** Where clients reach this backend; known when it listens. */
  origin = "";

  /** Open the storage in *directory*, and remove files that no row names. */
  constructor(engine: Engine, directory: string) {
    this.#engine = engine;
    this.#directory = directory;
    fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
    this.#secret = secretIn(path.join(directory, ".secret"));
    this.#sweep();
    this.#serveFunctions();
    engine.onCommit((commit) => this.#removeDeleted(commit));
  }

  /** A URL that takes one upload or more within the hour. */
  uploadUrl(): string {
    const expires = String(now() + UPLOAD_URL_VALID_MS);
    return `${this.origin}/api/storage/upload?token=${expires}.${this.#sign(expires)}`;
  }

  /** Refuse a token that `uploadUrl` did not issue, or that has expired. */
  checkToken(token: string): void {
    const [expires = "", signature = ""] = token.split(".");
    const expected = Buffer.from(this.#sign(expires));
    const given = Buffer.from(signature);
    const genuine = given.length === expected.length && timingSafeEqual(given, expected);
    if (!genuine || Number(expires) < now()) {
      throw new Refusal(401, "StorageTokenInvalid", "The upload URL is not valid or has expired.");
    }
  }

  /**
   * Store the bytes of *body* and answer with the new file's id.
   *
   * @throws Refusal when they are too many, or their SHA-256 (base64) is not *digest*.
   */
  async store(body: Readable, contentType: string | null, digest?: string): Promise<string> {
    const upload = path.join(this.#directory, `.upload-${randomUUID()}`);
    try {
      const { size, sha256 } = await receive(body, upload);
      if (digest !== undefined && digest !== sha256) {
        throw new Refusal(400, "DigestMismatch", `The file's SHA-256 is ${sha256}, not ${digest}.`);
      }
      return await this.#engine.transaction(() => {
        const id = this.#engine.db.insert("_storage", { size, sha256, contentType });
        // In place before the commit that names it; should the commit never be, the next start
        // removes the file.
        fs.renameSync(upload, this.#path(id));
        syncDirectory(this.#directory);
        return id;
      });
    } finally {
      fs.rmSync(upload, { force: true });
    }
  }

  /** The committed file *id*, or undefined. */
  find(id: string): StoredFile | undefined {
    const row = this.#engine.document(id);
    if (!row || tableOf(id) !== "_storage") return undefined;
    const { size, sha256, contentType } = row as unknown as StoredFile;
    return { path: this.#path(id), size, sha256, contentType };
  }

  #serveFunctions(): void {
    const engine = this.#engine;
    engine.replaceSyscall("1.0/storageGenerateUploadUrl", async () => this.uploadUrl());
    engine.replaceSyscall("1.0/storageGetUrl", async ({ storageId }: { storageId: string }) =>
      engine.db.get("_storage", storageId) ? `${this.origin}/api/storage/${storageId}` : null,
    );
    engine.replaceSyscall("1.0/storageDelete", async ({ storageId }: { storageId: string }) => {
      await engine.write(() => engine.db.delete("_storage", storageId));
      return {};
    });
    engine.replaceJsSyscall("storage/storeBlob", async ({ blob }: { blob: Blob }) =>
      this.store(Readable.from(blob.stream()), blob.type || null),
    );
    engine.replaceJsSyscall("storage/getBlob", async ({ storageId }: { storageId: string }) => {
      const file = this.find(storageId);
      return file ? await fs.openAsBlob(file.path, { type: file.contentType ?? "" }) : null;
    });
  }

  #removeDeleted(commit: Commit): void {
    for (const [id, row] of commit) {
      if (row === null && tableOf(id) === "_storage") fs.rmSync(this.#path(id), { force: true });
    }
  }

  #sweep(): void {
    const named = new Set(this.#engine.documents("_storage").map(({ _id }) => _id));
    for (const file of fs.readdirSync(this.#directory)) {
      if (file !== ".secret" && !named.has(file)) fs.rmSync(path.join(this.#directory, file));
    }
  }

  #path(id: string): string {
    return path.join(this.#directory, id);
  }

  #sign(text: string): string {
    return createHmac("sha256", this.#secret).update(text).digest("hex");
  }
}

async function receive(body: Readable, file: string): Promise<{ size: number; sha256: string }> {
  const hash = createHash("sha256");
  let size = 0;
  const count = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      size += chunk.length;
      hash.update(chunk);
      if (size <= MAX_FILE_BYTES) done(null, chunk);
      else
        done(new Refusal(413, "FileTooLarge", "Files of more than 256 MiB are not stored here."));
    },
  });
  await pipeline(body, count, fs.createWriteStream(file, { flags: "wx", flush: true }));
  return { size, sha256: hash.digest("base64") };
}

function secretIn(file: string): Buffer {
  if (!fs.existsSync(file)) fs.writeFileSync(file, randomBytes(32), { mode: 0o600, flush: true });
  return fs.readFileSync(file);
}
