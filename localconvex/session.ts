import type { JSONValue } from "convex/values";
import { jsonToConvex, type Value } from "convex/values";
import type { WebSocket } from "ws";
import type { Calls, Identity, Reply } from "./calls.ts";
import type { Faults } from "./faults.ts";
import { canonicalPath } from "./functions.ts";
import type { Gate } from "./identity.ts";
import {
  authError,
  fatalError,
  PING,
  queryAnswered,
  queryRemoved,
  response,
  transition,
  type Version,
} from "./messages.ts";
import { CONFLICT, Refusal } from "./refusal.ts";
import { newRun, type Run } from "./run.ts";

// What RFC 6455 calls "try again later"; Convex closes with it after a conflict.
const TRY_AGAIN_LATER = 1013;

/** What every socket is served with. */
export interface Connections {
  calls: Calls;
  faults: Faults;
  gate: Gate;
}

interface Message {
  type: string;
  [field: string]: unknown;
}

interface Subscription {
  /** The last run; its tables say which commits concern it. */
  run: Run;
  stale: boolean;
  /** The last answer that was sent, as text. */
  sent?: string;
}

/**
 * One socket of a client: its subscriptions, its mutations in order, its identity.
 *
 * The client follows by versions: each Transition starts at the version where the last one ended.
 * A subscription runs again only after a commit to a table that its last run read.
 */
export class SyncSession {
  readonly #socket: WebSocket;
  readonly #connections: Connections;
  readonly #subscriptions = new Map<number, Subscription>();
  readonly #removed: number[] = [];
  #identity: Identity = "anyone";
  #sessionId = "";
  #sent: Version = { querySet: 0, identity: 0, ts: 0n };
  #wanted = { querySet: 0, identity: 0 };
  #mutations: Promise<void> = Promise.resolve();
  /** A Transition is owed, whether or not an answer changed. */
  #owed = false;
  #updating = false;

  constructor(socket: WebSocket, connections: Connections) {
    this.#socket = socket;
    this.#connections = connections;
    socket.on("error", () => socket.terminate());
    socket.on("message", (data) => {
      try {
        this.#receive(JSON.parse(data.toString()));
      } catch (error) {
        this.#fail(error);
      }
    });
  }

  /** A commit wrote to *tables*. */
  committed(tables: ReadonlySet<string>): void {
    for (const subscription of this.#subscriptions.values()) {
      const concerned = [...subscription.run.tables].some((table) => tables.has(table));
      if (concerned) subscription.stale = true;
    }
    void this.#update();
  }

  ping(): void {
    this.#send(PING);
  }

  /** Drop the connection without a closing frame. */
  drop(): void {
    this.#socket.terminate();
  }

  #receive(message: Message): void {
    if (message.type !== "Connect" && this.#sessionId === "") {
      throw new Error("the first message is to be Connect");
    }
    switch (message.type) {
      case "Connect":
        this.#sessionId = String(message.sessionId);
        return;
      case "ModifyQuerySet":
        this.#modifyQuerySet(message);
        return;
      case "Authenticate":
        this.#authenticate(message);
        return;
      case "Mutation":
        this.#mutations = this.#mutations.then(() => this.#call("mutation", message));
        return;
      case "Action":
        void this.#call("action", message);
        return;
      case "Event":
        return;
      default:
        throw new Error(`unknown message type ${message.type}`);
    }
  }

  #modifyQuerySet({ baseVersion, newVersion, modifications }: Message): void {
    if (baseVersion !== this.#wanted.querySet) throw new Error("BaseVersionMismatch");
    this.#wanted.querySet = Number(newVersion);
    for (const change of modifications as Message[]) {
      const id = Number(change.queryId);
      if (change.type === "Add") {
        this.#subscriptions.set(id, { run: runOf(change), stale: true });
      } else if (this.#subscriptions.delete(id)) this.#removed.push(id);
    }
    this.#oweTransition();
  }

  #authenticate({ tokenType, value, baseVersion }: Message): void {
    try {
      this.#identity = this.#connections.gate.byToken(tokenType, value);
    } catch (refusal) {
      const error = refusal instanceof Refusal ? refusal.message : String(refusal);
      this.#send(authError(error, Number(baseVersion)));
      this.#socket.close();
      return;
    }
    this.#wanted.identity = Number(baseVersion) + 1;
    for (const subscription of this.#subscriptions.values()) {
      subscription.stale = true;
      subscription.sent = undefined;
    }
    this.#oweTransition();
  }

  async #call(kind: "mutation" | "action", message: Message): Promise<void> {
    try {
      const { calls, faults } = this.#connections;
      const request = kind === "mutation" ? `${this.#sessionId}/${message.requestId}` : undefined;
      const run = runOf(message, request);
      const delivery = await faults.deliver(kind, run.path, () =>
        calls.call(kind, run, this.#identity),
      );
      if (delivery === "lost") this.drop();
      else if (delivery === "conflict") this.#socket.close(TRY_AGAIN_LATER, CONFLICT.code);
      else this.#send(response(kind, Number(message.requestId), delivery));
    } catch (error) {
      this.#fail(error);
    }
    // The client holds a mutation's promise until a Transition shows it the mutation's effect.
    if (kind === "mutation") this.#oweTransition();
  }

  #oweTransition(): void {
    this.#owed = true;
    void this.#update();
  }

  /** Send Transitions until all is said. A call while one is on its way is taken in by it. */
  async #update(): Promise<void> {
    if (this.#updating) return;
    this.#updating = true;
    try {
      while (this.#isOpen() && (this.#owed || this.#stale().length > 0)) await this.#transition();
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#updating = false;
    }
  }

  async #transition(): Promise<void> {
    const owed = this.#owed;
    this.#owed = false;
    const wanted = { ...this.#wanted };
    const modifications = this.#removed.splice(0).map(queryRemoved);
    const { ts, changes } = await this.#rerun();
    modifications.push(...changes);
    if (!owed && modifications.length === 0) return;
    const end = { ...wanted, ts: ts > this.#sent.ts ? ts : this.#sent.ts };
    this.#send(transition(this.#sent, end, modifications));
    this.#sent = end;
  }

  /** Run what is stale on one snapshot, and say what came out different. */
  async #rerun(): Promise<{ ts: bigint; changes: string[] }> {
    const stale = this.#stale();
    for (const [, subscription] of stale) {
      subscription.stale = false;
      subscription.run = newRun(subscription.run.path, subscription.run.args);
    }
    const runs = stale.map(([, { run }]) => run);
    const { ts, replies } = await this.#connections.calls.queries(runs, this.#identity);
    const changes: string[] = [];
    for (const [index, [id, subscription]] of stale.entries()) {
      const answer = queryAnswered(id, replies[index] as Reply);
      const current = this.#subscriptions.get(id) === subscription;
      if (!current || answer === subscription.sent) continue;
      subscription.sent = answer;
      changes.push(answer);
    }
    return { ts, changes };
  }

  #stale(): [number, Subscription][] {
    return [...this.#subscriptions].filter(([, { stale }]) => stale);
  }

  #isOpen(): boolean {
    return this.#socket.readyState === this.#socket.OPEN;
  }

  #send(json: string): void {
    if (this.#isOpen()) this.#socket.send(json);
  }

  #fail(error: unknown): void {
    const text = error instanceof Error ? error.message : String(error);
    this.#send(fatalError(text));
    this.#socket.close();
  }
}

function runOf({ udfPath, args }: Message, request?: string): Run {
  const [json = {}] = args as JSONValue[];
  return newRun(
    canonicalPath(String(udfPath)),
    jsonToConvex(json) as Record<string, Value>,
    request,
  );
}
