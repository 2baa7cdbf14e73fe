import { createHash, timingSafeEqual } from "node:crypto";
import type { Identity } from "./calls.ts";
import { Refusal } from "./refusal.ts";

/**
 * Tells who a client is by the credentials it sends.
 *
 * There is the admin key, or nobody: like a deployment without `auth.config.ts`, this one knows no
 * provider of user tokens and refuses them all.
 */
export class Gate {
  readonly #adminKey: string | undefined;

  constructor(adminKey: string | undefined) {
    this.#adminKey = adminKey;
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
