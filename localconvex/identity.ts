import { createHash, timingSafeEqual } from "node:crypto";
import type http from "node:http";
import type { Identity } from "./calls.ts";
import { Refusal } from "./refusal.ts";

const LOOPBACK = ["127.0.0.1", "localhost", "[::1]"];

/**
 * Tells who a client is by the credentials it sends, and lets nobody in under a foreign name.
 *
 * There is the admin key, or nobody: like a deployment without `auth.config.ts`, this one knows no
 * provider of user tokens and refuses them all.
 */
export class Gate {
  readonly #adminKey: string | undefined;
  readonly #names: ReadonlySet<string>;

  /** A gate for *adminKey*; *name* is what this host is called beside loopback. */
  constructor(adminKey: string | undefined, name: string | undefined) {
    this.#adminKey = adminKey;
    this.#names = new Set(name === undefined ? LOOPBACK : [...LOOPBACK, name]);
  }

  /** Refuse requests that a web page made: pages elsewhere must not reach this server by a browser. */
  checkHost({ headers }: http.IncomingMessage): void {
    if (!this.#isOurs(headers.host ?? "") || !this.#isOurs(headers.origin ?? "localhost")) {
      throw new Refusal(403, "ForeignHost", "This backend serves its own host only.");
    }
  }

  /** Whether *place*, an origin or a host with or without a port, is this backend's. */
  #isOurs(place: string): boolean {
    const [, name = ""] = /^(?:https?:\/\/)?(.+?)(?::\d+)?$/.exec(place) ?? [];
    return this.#names.has(name);
  }

  /** Who sends this `Authorization` header. @throws Refusal for credentials that do not hold. */
  byHeader(header: string | undefined): Identity {
    if (header === undefined) return "anyone";
    const [scheme, value = ""] = header.split(/ (.*)/s);
    return this.byToken(scheme === "Convex" ? "Admin" : "User", value);
  }

  /** The same for an `Authenticate` message of the socket. */
  byToken(type: unknown, value: unknown): Identity {
    if (type === "None") return "anyone";
    if (type !== "Admin") {
      throw new Refusal(401, "NoAuthProvider", "No auth provider found matching the given token.");
    }
    if (this.#adminKey === undefined || !same(String(value), this.#adminKey)) {
      throw new Refusal(401, "BadAdminKey", "The provided admin key was invalid for this instance");
    }
    return "admin";
  }
}

function same(given: string, expected: string): boolean {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(given), digest(expected));
}
