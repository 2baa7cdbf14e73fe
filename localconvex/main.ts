import fs from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { Calls } from "./calls.ts";
import { installClock } from "./clock.ts";
import { Control } from "./control.ts";
import { Engine } from "./engine.ts";
import { Faults } from "./faults.ts";
import { loadModules } from "./functions.ts";
import { createHttpServer, type Parts } from "./http.ts";
import { Gate } from "./identity.ts";
import { captureConsole, event } from "./journal.ts";
import { Listener } from "./listener.ts";
import { lockDirectory } from "./lock.ts";
import { CommitLog } from "./log.ts";
import { Storage } from "./storage.ts";
import { Sync } from "./sync.ts";
import { Timers } from "./timers.ts";

const USAGE = `usage: node localconvex/main.ts --data DIR [--port N] [--functions DIR] [--faults]
                                 [--url URL] [--admin-key-file FILE] [--lifeline]

  --data DIR             where documents and files are kept; one process at a time
  --port N               port on 127.0.0.1; 0 for a free one (default 3210)
  --url URL              where clients in the same network reach it, as http://convex:3210; it listens on every
                         address then, and takes calls under that name, too
  --functions DIR        the Convex functions to run (default: convex/ of this repository)
  --faults               switch on the fault interface, for tests
  --admin-key-file FILE  a file with the key that may call internal functions
  --lifeline             end when standard input ends`;
const EXIT_USAGE = 64;

interface Options {
  data: string;
  port: number;
  url: URL | undefined;
  functions: string;
  faults: boolean;
  adminKey: string | undefined;
  lifeline: boolean;
}

/** The options that *args* state. @throws Error saying what is wrong with them. */
function parseOptions(args: string[]): Options {
  const { values } = parseArgs({
    args,
    options: {
      data: { type: "string" },
      port: { type: "string", default: "3210" },
      url: { type: "string" },
      functions: { type: "string", default: path.join(import.meta.dirname, "../convex") },
      faults: { type: "boolean", default: false },
      "admin-key-file": { type: "string" },
      lifeline: { type: "boolean", default: false },
    },
  });
  const { data, functions, faults, lifeline, "admin-key-file": keyFile } = values;
  if (data === undefined) throw new Error("--data is missing");
  const port = /^\d{1,5}$/.test(values.port) ? Number(values.port) : Number.NaN;
  if (!(port <= 65535)) throw new Error(`--port ${values.port} is no port`);
  const url = values.url === undefined ? undefined : parseUrl(values.url);
  if (!fs.statSync(functions, { throwIfNoEntry: false })?.isDirectory()) {
    throw new Error(`--functions ${functions} is no directory`);
  }
  const adminKey = keyFile === undefined ? undefined : fs.readFileSync(keyFile, "utf8").trim();
  if (adminKey === "") throw new Error(`--admin-key-file ${keyFile} is empty`);
  return { data: path.resolve(data), port, url, functions, faults, adminKey, lifeline };
}

/** The origin that *text* is. @throws Error when it is none, or more than one. */
function parseUrl(text: string): URL {
  const url = URL.parse(text);
  if (url?.protocol !== "http:" || url.origin !== text) {
    throw new Error(`--url ${text} is no URL like http://convex:3210`);
  }
  return url;
}

/** Start all parts; the returned function stops them. */
async function start(options: Options): Promise<() => void> {
  fs.mkdirSync(options.data, { recursive: true, mode: 0o700 });
  await lockDirectory(options.data);
  installClock();
  captureConsole();
  const build = path.join(options.data, "build");
  const modules = await loadModules(path.resolve(options.functions), build);
  const log = new CommitLog(path.join(options.data, "commits.jsonl"));
  const engine = await Engine.start(modules, log);
  const storage = new Storage(engine, path.join(options.data, "files"));
  const timers = new Timers(engine, modules);
  const calls = new Calls(engine, modules);
  const faults = new Faults();
  const gate = new Gate(options.adminKey, options.url?.hostname);
  const parts: Parts = { engine, calls, storage, faults, gate };
  const server = createHttpServer(parts);
  const listener = new Listener(server, options.url !== undefined);
  const sync = new Sync(server, engine, { calls, faults, gate });
  if (options.faults) parts.control = new Control({ engine, faults, timers, listener, sync });
  const origin = await listener.open(options.port);
  storage.origin = options.url?.origin ?? origin;
  await timers.start();
  process.stdout.write(`localconvex ready ${origin}\n`);
  return () => {
    timers.stop();
    sync.close();
    listener.close();
  };
}

async function main(): Promise<void> {
  let options: Options;
  try {
    options = parseOptions(process.argv.slice(2));
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n${USAGE}\n`);
    process.exit(EXIT_USAGE);
  }
  process.setSourceMapsEnabled(true);
  // Before the start: whoever sees the ready line may ask for the end at once. Whatever was answered is
  // on the disk, so there is nothing to wait for.
  let stop = () => {};
  const end = (reason: string) => {
    event("main", `ending: ${reason}`);
    stop();
    process.exit(0);
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => end(signal));
  if (options.lifeline) process.stdin.resume().once("close", () => end("standard input ended"));
  stop = await start(options).catch((error) => {
    event("main", `cannot start: ${error instanceof Error ? error.message : error}`);
    process.exit(1);
  });
}

await main();
