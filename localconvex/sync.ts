import type http from "node:http";
import { type WebSocket, WebSocketServer } from "ws";
import type { Engine } from "./engine.ts";
import type { Gate } from "./identity.ts";
import { tableOf } from "./reads.ts";
import { type Connections, SyncSession } from "./session.ts";

const PING_MS = 15_000;
const MAX_FRAME_BYTES = 20 << 20;
// Clients write their version between the two names.
const SYNC_PATH = /^\/api\/([^/]+\/)?sync$/;

/** The `/api/sync` sockets of an HTTP server. */
export class Sync {
  readonly #sessions = new Set<SyncSession>();
  readonly #server = new WebSocketServer({ noServer: true, maxPayload: MAX_FRAME_BYTES });
  readonly #pings: NodeJS.Timeout;

  constructor(server: http.Server, engine: Engine, connections: Connections) {
    server.on("upgrade", (request, socket, head) => {
      if (!isWelcome(request, connections.gate)) socket.destroy();
      else {
        this.#server.handleUpgrade(request, socket, head, (ws) => this.#serve(ws, connections));
      }
    });
    engine.onCommit((commit) => {
      const tables = new Set([...commit.keys()].map(tableOf));
      for (const session of this.#sessions) session.committed(tables);
    });
    this.#pings = setInterval(() => {
      for (const session of this.#sessions) session.ping();
    }, PING_MS);
  }

  /** Drop every socket, without a word, and say how many there were. */
  disconnect(): number {
    const { size } = this.#sessions;
    for (const session of this.#sessions) session.drop();
    return size;
  }

  /** End for good. */
  close(): void {
    clearInterval(this.#pings);
    this.disconnect();
  }

  #serve(socket: WebSocket, connections: Connections): void {
    const session = new SyncSession(socket, connections);
    this.#sessions.add(session);
    socket.on("close", () => this.#sessions.delete(session));
  }
}

function isWelcome(request: http.IncomingMessage, gate: Gate): boolean {
  try {
    gate.checkHost(request);
    return SYNC_PATH.test(new URL(request.url ?? "/", "http://localhost").pathname);
  } catch {
    return false;
  }
}
