import type http from "node:http";
import type { AddressInfo } from "node:net";
import { clearTimeout, setTimeout } from "node:timers";
import { event } from "./journal.ts";

const LOOPBACK = "127.0.0.1";
const EVERYWHERE = "0.0.0.0";

/** The listening socket: on loopback alone, or *everywhere*. */
export class Listener {
  readonly #server: http.Server;
  readonly #host: string;
  #port = 0;
  #reopening: NodeJS.Timeout | undefined;

  constructor(server: http.Server, everywhere: boolean) {
    this.#server = server;
    this.#host = everywhere ? EVERYWHERE : LOOPBACK;
  }

  /** Listen on *port*, a free one for 0, and say where on loopback. */
  async open(port: number): Promise<string> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(port, this.#host, () => {
        this.#server.off("error", reject);
        resolve();
      });
    });
    this.#port = (this.#server.address() as AddressInfo).port;
    return `http://${LOOPBACK}:${this.#port}`;
  }

  /** Drop every connection and refuse new ones for *ms* milliseconds. */
  refuse(ms: number): void {
    event("faults", `refusing connections for ${ms} ms`);
    this.close();
    this.#reopening = setTimeout(() => this.#reopen(), ms);
  }

  /** Stop listening and drop every connection. */
  close(): void {
    clearTimeout(this.#reopening);
    this.#server.close();
    this.#server.closeAllConnections();
  }

  #reopen(): void {
    this.open(this.#port).catch((error) => {
      event("listener", `cannot listen on port ${this.#port} again: ${error.message}`);
      process.exit(1);
    });
  }
}
