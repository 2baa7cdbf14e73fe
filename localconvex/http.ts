import fs from "node:fs";
import http from "node:http";
import { pipeline } from "node:stream/promises";
import { type JSONValue, jsonToConvex, type Value } from "convex/values";
import type { Calls, Reply } from "./calls.ts";
import type { Control } from "./control.ts";
import type { Engine } from "./engine.ts";
import type { Faults } from "./faults.ts";
import { canonicalPath, type Kind } from "./functions.ts";
import type { Gate } from "./identity.ts";
import { describe, event } from "./journal.ts";
import { asRefusal, CONFLICT, Refusal } from "./refusal.ts";
import { newRun, type Run } from "./run.ts";
import { MAX_FILE_BYTES, type Storage } from "./storage.ts";
import { exported, type Format, isFormat, toJson } from "./wire.ts";

const MAX_BODY_BYTES = 20 << 20;
// Longer than clients keep an idle connection, so that it is theirs to close: a request sent into
// a connection that the server is closing is lost.
const KEEP_ALIVE_MS = 120_000;
const NAME = "localconvex";
const TOO_LARGE = new Refusal(413, "RequestTooLarge", "The body of the request is too large.");

type Request = http.IncomingMessage;
type Response = http.ServerResponse;

/** What the HTTP interface needs to answer. */
export interface Parts {
  engine: Engine;
  calls: Calls;
  storage: Storage;
  faults: Faults;
  gate: Gate;
  /** The fault interface, when it is switched on. */
  control?: Control;
}

/** An HTTP server for *parts*, not listening yet. */
export function createHttpServer(parts: Parts): http.Server {
  return http.createServer({ keepAliveTimeout: KEEP_ALIVE_MS }, (request, response) => {
    handle(parts, request, response).catch((error) => {
      if (!(error instanceof Refusal)) event("http", describe(error));
      refuse(request, response, asRefusal(error));
    });
  });
}

async function handle(parts: Parts, request: Request, response: Response): Promise<void> {
  parts.gate.checkHost(request);
  const url = new URL(request.url ?? "/", "http://localhost");
  const [, first, second, third] = url.pathname.split("/");
  const method = request.method ?? "GET";
  const kind = method === "POST" && first === "api" && third === undefined ? second : undefined;
  if (kind === "query" || kind === "mutation" || kind === "action") {
    await callFunction(parts, kind, request, response);
  } else if (method === "POST" && url.pathname === "/api/storage/upload") {
    await upload(parts, url, request, response);
  } else if (method === "GET" && url.pathname === `/api/storage/${third}`) {
    await download(parts, third, response);
  } else if (first === "http") await callHttpAction(parts, url, request, response);
  else if (first?.startsWith("_") && parts.control) {
    const answer = await parts.control.answer(method, url, await readJson(request));
    sendJson(response, 200, toJson(answer));
  } else if (method === "GET" && ["/version", "/instance_name"].includes(url.pathname)) {
    response.end(NAME);
  } else throw new Refusal(404, "NotFound", `There is no ${method} ${url.pathname}.`);
}

async function callFunction(parts: Parts, kind: Kind, request: Request, response: Response) {
  const identity = parts.gate.byHeader(request.headers.authorization);
  const { run, format } = parseCall(await readJson(request));
  const delivery = await parts.faults.deliver(kind, run.path, () =>
    parts.calls.call(kind, run, identity),
  );
  if (delivery === "lost") {
    request.socket.destroy();
    return;
  }
  if (delivery === "conflict") throw CONFLICT;
  if (kind !== "action") response.setHeader("Convex-Documents-Read", run.documentsRead);
  sendJson(response, 200, replyJson(delivery, format));
}

function parseCall(body: unknown): { run: Run; format: Format } {
  const { path, args, format = "json" } = (body ?? {}) as Record<string, unknown>;
  const json = (Array.isArray(args) ? args[0] : args) ?? {};
  if (typeof path !== "string" || typeof json !== "object") {
    throw new Refusal(400, "BadJsonBody", "The body is to be {path, args, format}.");
  }
  if (!isFormat(format)) {
    throw new Refusal(400, "BadFormat", `format param must be one of [\`json\`]. Got ${format}`);
  }
  return { run: newRun(canonicalPath(path), parseArgs(json)), format };
}

function parseArgs(json: JSONValue): Record<string, Value> {
  try {
    return jsonToConvex(json) as Record<string, Value>;
  } catch (error) {
    throw new Refusal(400, "BadConvexValue", error instanceof Error ? error.message : "bad value");
  }
}

function replyJson(reply: Reply, format: Format): string {
  if ("value" in reply) {
    return `{"status":"success","value":${toJson(exported(reply.value, format))},"logLines":[]}`;
  }
  const { errorMessage, errorData } = reply;
  const data =
    errorData === undefined
      ? ""
      : `,"errorData":${toJson(exported(jsonToConvex(errorData), format))}`;
  return `{"status":"error","errorMessage":${JSON.stringify(errorMessage)}${data},"logLines":[]}`;
}

async function upload({ storage }: Parts, url: URL, request: Request, response: Response) {
  checkLength(request, MAX_FILE_BYTES);
  storage.checkToken(url.searchParams.get("token") ?? "");
  const { digest, "content-type": contentType = null } = request.headers;
  const sha256 = typeof digest === "string" ? /^sha-256=(.+)$/.exec(digest)?.[1] : undefined;
  if (digest !== undefined && sha256 === undefined) {
    throw new Refusal(400, "BadHeader", "Digest is to be sha-256=BASE64.");
  }
  const storageId = await storage.store(request, contentType, sha256);
  sendJson(response, 200, JSON.stringify({ storageId }));
}

async function download({ storage }: Parts, id: string | undefined, response: Response) {
  const file = storage.find(id ?? "");
  if (!file) throw new Refusal(404, "FileNotFound", "There is no such file.");
  response.writeHead(200, {
    "content-length": file.size,
    digest: `sha-256=${file.sha256}`,
    ...(file.contentType === null ? {} : { "content-type": file.contentType }),
  });
  await pipeline(fs.createReadStream(file.path), response);
}

async function callHttpAction({ engine }: Parts, url: URL, request: Request, response: Response) {
  const body = await readBody(request);
  const answer = await engine.httpAction(url.pathname.slice("/http".length) + url.search, {
    method: request.method,
    headers: request.headers as Record<string, string>,
    body: body.length > 0 ? new Uint8Array(body) : undefined,
  });
  response.writeHead(answer.status, Object.fromEntries(answer.headers));
  response.end(Buffer.from(await answer.arrayBuffer()));
}

async function readJson(request: Request): Promise<unknown> {
  const body = await readBody(request);
  if (body.length === 0) return undefined;
  try {
    return JSON.parse(body.toString("utf8"));
  } catch {
    throw new Refusal(400, "BadJsonBody", "The body is no JSON.");
  }
}

/** Refuse a body that announces more than *limit* bytes, before any of it is read. */
function checkLength(request: Request, limit: number): void {
  if (Number(request.headers["content-length"] ?? 0) > limit) throw TOO_LARGE;
}

async function readBody(request: Request): Promise<Buffer> {
  checkLength(request, MAX_BODY_BYTES);
  const chunks: Buffer[] = [];
  let size = 0;
  // Leaving the loop must not end the connection: the refusal is still to be sent on it.
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES) throw TOO_LARGE;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function sendJson(response: Response, status: number, json: string): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(json);
}

function refuse(request: Request, response: Response, { status, code, message }: Refusal): void {
  if (response.headersSent || request.socket.destroyed) {
    request.socket.destroy();
    return;
  }
  // The rest of a body that was not read would be taken for the next request.
  if (!request.complete) response.setHeader("connection", "close");
  const answer = () => sendJson(response, status, JSON.stringify({ code, message }));
  // A connection that is closed under a client that still sends takes the answer with it.
  if (request.complete) answer();
  else request.once("end", answer).resume();
}
