/** A request that is answered with an error of the backend's own, not of a function. */
export class Refusal extends Error {
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** What Convex answers when its own retries of a conflicting mutation are used up. */
export const CONFLICT = new Refusal(
  503,
  "OptimisticConcurrencyControlFailure",
  "Documents read from or written to a table changed while this mutation was being run and on " +
    "every subsequent retry.",
);

/** *error* as the answer to a request: what is no refusal is a fault of this backend. */
export function asRefusal(error: unknown): Refusal {
  if (error instanceof Refusal) return error;
  return new Refusal(500, "InternalServerError", error instanceof Error ? error.message : "?");
}
