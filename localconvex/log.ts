import fs from "node:fs";
import path from "node:path";
import type { JSONValue } from "convex/values";
import { event } from "./journal.ts";

/** One line of the log. Every field is optional; a commit has the first four. */
export interface LogRecord {
  /** Commit timestamp, nanoseconds. */
  ts?: string;
  nextId?: number;
  lastCreationTime?: number;
  /** Documents as they are after the commit; null for a deleted one. */
  documents?: Record<string, JSONValue>;
  /** The client's request that the commit answers, and the answer. */
  answer?: { request: string; value: JSONValue; ts: string };
  /** How far the clock was moved, milliseconds. */
  clockAhead?: number;
}

/** A file of JSON lines; a record is on the disk before `append` returns. */
export class CommitLog {
  readonly #path: string;
  #fd: number;

  constructor(file: string) {
    this.#path = file;
    this.#fd = fs.openSync(file, "a", 0o600);
  }

  /**
   * The records in order. A torn last line is dropped: nobody was answered for it.
   *
   * @throws Error when a line before the last one is broken.
   */
  *read(): Generator<LogRecord> {
    const bytes = fs.readFileSync(this.#path);
    let start = 0;
    for (let line = 1; start < bytes.length; line++) {
      const end = bytes.indexOf("\n", start);
      const record = end < 0 ? undefined : parsed(bytes.toString("utf8", start, end));
      if (record !== undefined) yield record;
      else if (end < 0 || end === bytes.length - 1) {
        event("log", `dropped a torn record of ${bytes.length - start} bytes at the end`);
        return;
      } else throw new Error(`${this.#path}: line ${line} is broken`);
      start = end + 1;
    }
  }

  /** Write *record* through to the disk. A log that cannot be written ends the process. */
  append(record: LogRecord): void {
    try {
      fs.appendFileSync(this.#fd, `${JSON.stringify(record)}\n`);
      fs.fdatasyncSync(this.#fd);
    } catch (error) {
      // What is on the disk is unknown now, and the commit is already in memory: going on could
      // answer for something that the next start does not find.
      event("log", `cannot write ${this.#path}: ${error}`);
      process.exit(1);
    }
  }

  /** Replace the whole log by *records*, at once or not at all. */
  rewrite(records: Iterable<LogRecord>): void {
    const next = `${this.#path}.new`;
    const fd = fs.openSync(next, "w", 0o600);
    for (const record of records) fs.appendFileSync(fd, `${JSON.stringify(record)}\n`);
    fs.fsyncSync(fd);
    fs.renameSync(next, this.#path);
    syncDirectory(path.dirname(this.#path));
    fs.closeSync(this.#fd);
    this.#fd = fd;
  }
}

function parsed(line: string): LogRecord | undefined {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

/** Make the names of a directory's files as durable as their contents. */
export function syncDirectory(directory: string): void {
  const fd = fs.openSync(directory, "r");
  fs.fsyncSync(fd);
  fs.closeSync(fd);
}
