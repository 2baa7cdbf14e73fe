/** The same as speak_python.py, with the official JavaScript clients. */
import { createInterface } from "node:readline";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { makeFunctionReference } from "convex/server";
import { ConvexError, convexToJson, type Value } from "convex/values";

interface Order {
  op: "query" | "mutation" | "action" | "subscribe" | "next" | "admin" | "awkward";
  path: string;
  args: Record<string, Value>;
  key: string;
}

const AWKWARD: Value = {
  integer: 2n ** 60n,
  bytes: new Uint8Array([0, 255]).buffer,
  infinite: Number.POSITIVE_INFINITY,
  nested: [{ empty: {} }, null, true, "ü", -0.5],
};

const [kind, url = ""] = process.argv.slice(2);
const http = new ConvexHttpClient(url, { logger: false });
const socket = kind === "socket" ? new ConvexClient(url, { logger: false }) : undefined;
const client = socket ?? http;
const updates: unknown[] = [];
let updated = () => {};

async function carryOut({ op, path, args, key }: Order): Promise<unknown> {
  const reference = makeFunctionReference<never>(path) as never;
  switch (op) {
    case "admin":
      return (client as unknown as { setAdminAuth(key: string): void }).setAdminAuth(key) ?? null;
    case "awkward": {
      const echoed = await client.query(makeFunctionReference<"query">("notes:echo"), {
        value: AWKWARD,
      });
      return JSON.stringify(convexToJson(echoed)) === JSON.stringify(convexToJson(AWKWARD));
    }
    case "subscribe":
      socket?.onUpdate(reference, args as never, (value) => {
        updates.push(value);
        updated();
      });
      return null;
    case "next":
      while (updates.length === 0) {
        await new Promise<void>((resolve) => {
          updated = resolve;
        });
      }
      return updates.shift();
    default:
      return await (client[op] as (...call: unknown[]) => Promise<unknown>).call(
        client,
        reference,
        args,
      );
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  let answer: object;
  try {
    answer = { value: await carryOut(JSON.parse(line)) };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    answer =
      error instanceof ConvexError
        ? { error: "ConvexError", message, data: error.data }
        : { error: "Error", message };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.exit(0);
