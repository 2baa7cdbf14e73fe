/** What the server says on `/api/sync`, as text. */
import { convexToJson } from "convex/values";
import type { Reply } from "./calls.ts";
import { toJson, u64 } from "./wire.ts";

/** How far a client has been told: its queries, its identity, and the data. */
export interface Version {
  querySet: number;
  identity: number;
  ts: bigint;
}

export const PING = '{"type":"Ping"}';

/** The step from *start* to *end*, with what changed on the way. */
export function transition(start: Version, end: Version, modifications: string[]): string {
  const versions = `"startVersion":${version(start)},"endVersion":${version(end)}`;
  return `{"type":"Transition",${versions},"modifications":[${modifications.join(",")}]}`;
}

/** A modification: the answer of a query, or the error that stands for it. */
export function queryAnswered(queryId: number, reply: Reply): string {
  const rest = `"queryId":${queryId},"logLines":[],"journal":null`;
  if ("value" in reply) {
    return `{"type":"QueryUpdated",${rest},"value":${toJson(convexToJson(reply.value))}}`;
  }
  return `{"type":"QueryFailed",${rest},${error("errorMessage", reply)}}`;
}

/** A modification: the query is not followed any more. */
export function queryRemoved(queryId: number): string {
  return JSON.stringify({ type: "QueryRemoved", queryId });
}

/** What came of a mutation or an action. */
export function response(kind: "mutation" | "action", requestId: number, reply: Reply): string {
  const type = kind === "mutation" ? "MutationResponse" : "ActionResponse";
  const head = `"type":"${type}","requestId":${requestId},"logLines":[]`;
  if (!("value" in reply)) return `{${head},"success":false,"ts":null,${error("result", reply)}}`;
  const ts = reply.ts === undefined ? "" : `,"ts":"${u64(reply.ts)}"`;
  return `{${head},"success":true,"result":${toJson(convexToJson(reply.value))}${ts}}`;
}

/** The credentials of an `Authenticate` message do not hold. */
export function authError(error: string, baseVersion: number): string {
  return JSON.stringify({ type: "AuthError", error, baseVersion, authUpdateAttempted: true });
}

/** The client broke the protocol; the connection ends with this. */
export function fatalError(error: string): string {
  return JSON.stringify({ type: "FatalError", error });
}

function version({ querySet, identity, ts }: Version): string {
  return JSON.stringify({ querySet, identity, ts: u64(ts) });
}

function error(name: string, reply: Exclude<Reply, { value: unknown }>): string {
  const data = reply.errorData === undefined ? "" : `,"errorData":${toJson(reply.errorData)}`;
  return `"${name}":${JSON.stringify(reply.errorMessage)}${data}`;
}
