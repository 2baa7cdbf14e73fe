import { format } from "node:util";
import { currentRun } from "./run.ts";

/** Write one line about one event to stderr. */
export function event(source: string, text: string): void {
  const line = text.trim().replace(/\s*\n\s*/g, " | ");
  process.stderr.write(`${new Date().toISOString()} ${source}: ${line}\n`);
}

/** Send what functions print to stderr too, one line for each call, under the function's name. */
export function captureConsole(): void {
  for (const level of ["debug", "log", "info", "warn", "error", "trace"] as const) {
    console[level] = (...args: unknown[]) =>
      event(currentRun.getStore()?.path ?? "console", `[${level}] ${format(...args)}`);
  }
}

/** Say what *error* is and where it was thrown, in one line. */
export function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const place = error.stack?.split("\n").find((line) => line.startsWith("    at "));
  return `${error.name}: ${error.message}${place ? ` ${place.trim()}` : ""}`;
}
