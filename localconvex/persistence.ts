import { convexToJson, type JSONValue, jsonToConvex, type Value } from "convex/values";
import { ahead, now, setAhead } from "./clock.ts";
import type { Document, Internals } from "./internals.ts";
import type { CommitLog, LogRecord } from "./log.ts";
import type { Run } from "./run.ts";

/** Convex forgets the answers it gave to a client's requests after this time. */
const ANSWERS_KEPT_NS = 14n * 24n * 3600n * 1_000_000_000n;

export interface Answer {
  value: Value;
  ts: bigint;
}

/** Keeps the engine's memory and the commit log the same. */
export class Persistence {
  readonly #internals: Internals;
  readonly #log: CommitLog;
  readonly #answers = new Map<string, Answer>();

  constructor(internals: Internals, log: CommitLog) {
    this.#internals = internals;
    this.#log = log;
  }

  /** Bring the memory to where the log ends, then write the log anew, without what is past. */
  restore(): void {
    for (const record of this.#log.read()) this.#apply(record);
    const { transactionManager } = this.#internals;
    const present = BigInt(Math.trunc(now())) * 1_000_000n;
    // Transactions without writes moved the timestamp and were not logged, yet clients saw them.
    if (present > transactionManager._lastCommitTs) transactionManager._lastCommitTs = present;
    for (const [request, { ts }] of this.#answers) {
      if (ts < present - ANSWERS_KEPT_NS) this.#answers.delete(request);
    }
    this.#log.rewrite(this.#snapshot());
  }

  /** The answer that *request* was given before, if it was. */
  answerTo(request: string | undefined): Answer | undefined {
    return request === undefined ? undefined : this.#answers.get(request);
  }

  /** Write the commit of *documents*, and the answer that *run* gives by it, as one record. */
  commit(ts: bigint, documents: ReadonlyMap<string, Document | null>, run?: Run): void {
    const { request, value } = run ?? {};
    const answer = request !== undefined && value !== undefined ? { value, ts } : undefined;
    if (documents.size === 0 && answer === undefined) return;
    this.#log.append({
      ...this.#counters(),
      documents: Object.fromEntries([...documents].map(([id, doc]) => [id, convexToJson(doc)])),
      answer: answer && request !== undefined ? answerRecord(request, answer) : undefined,
    });
    if (answer && request !== undefined) this.#answers.set(request, answer);
  }

  /** Write down how far the clock was moved, so that a restart does not turn time back. */
  clockMoved(): void {
    this.#log.append({ clockAhead: ahead() });
  }

  #apply({ ts, nextId, lastCreationTime, documents, answer, clockAhead }: LogRecord): void {
    const { db } = this.#internals.components[""];
    for (const [id, json] of Object.entries(documents ?? {})) {
      if (json === null) delete db._documents[id];
      else db._documents[id] = jsonToConvex(json) as Document;
    }
    if (answer) {
      this.#answers.set(answer.request, {
        value: jsonToConvex(answer.value),
        ts: BigInt(answer.ts),
      });
    }
    db._nextDocId = nextId ?? db._nextDocId;
    db._lastCreationTime = lastCreationTime ?? db._lastCreationTime;
    if (ts !== undefined) this.#internals.transactionManager._lastCommitTs = BigInt(ts);
    if (clockAhead !== undefined) setAhead(clockAhead);
  }

  *#snapshot(): Generator<LogRecord> {
    yield { ...this.#counters(), clockAhead: ahead() };
    for (const document of Object.values(this.#internals.components[""].db._documents)) {
      yield { documents: { [document._id]: convexToJson(document) } };
    }
    for (const [request, answer] of this.#answers) {
      yield { answer: answerRecord(request, answer) };
    }
  }

  #counters(): LogRecord {
    const { components, transactionManager } = this.#internals;
    const { _nextDocId: nextId, _lastCreationTime: lastCreationTime } = components[""].db;
    return { ts: String(transactionManager._lastCommitTs), nextId, lastCreationTime };
  }
}

function answerRecord(request: string, { value, ts }: Answer): LogRecord["answer"] {
  return { request, value: convexToJson(value) as JSONValue, ts: String(ts) };
}
