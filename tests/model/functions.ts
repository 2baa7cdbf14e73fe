/** The functions as they are, or with one deliberate bug. */

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { build } from "esbuild";
import type { Module, Modules } from "../../localconvex/functions.ts";
import type { Times } from "./protocol.ts";

/** One exact replacement in the source of one module. */
export type Change = { module: string; from: string; to: string };

export const SOURCE = path.resolve(import.meta.dirname, "../../convex");

/**
 * Build and import the functions, with *changes* made to them.
 *
 * @throws Error when what a change replaces does not stand in its module exactly once.
 */
export async function loadFunctions(...changes: Change[]): Promise<Modules> {
  const entryPoints = fs
    .readdirSync(SOURCE)
    .filter((name) => /^[^.]+\.ts$/.test(name))
    .map((name) => path.join(SOURCE, name));
  const target = fs.mkdtempSync(path.join(os.tmpdir(), "model-"));
  try {
    await build({
      entryPoints,
      outdir: target,
      outExtension: { ".js": ".mjs" },
      bundle: true,
      splitting: true,
      format: "esm",
      platform: "node",
      logLevel: "silent",
      plugins: [
        {
          name: "model",
          setup({ onLoad, onResolve }) {
            // Every set of functions shares the test engine's copy of the package.
            onResolve({ filter: /^convex\// }, ({ path: name }) => ({
              path: import.meta.resolve(name),
              external: true,
            }));
            for (const module of new Set(changes.map((change) => change.module))) {
              onLoad({ filter: new RegExp(`/convex/${module}\\.ts$`) }, () => ({
                contents: changedSource(module, changes),
                loader: "ts",
              }));
            }
          },
        },
      ],
    });
    const modules = new Map<string, Module>();
    for (const file of entryPoints) {
      const name = path.basename(file, ".ts");
      const built = pathToFileURL(path.join(target, `${name}.mjs`)).href;
      modules.set(name, await import(/* @vite-ignore */ built));
    }
    return modules;
  } finally {
    fs.rmSync(target, { recursive: true, force: true });
  }
}

function changedSource(module: string, changes: Change[]): string {
  let source = fs.readFileSync(path.join(SOURCE, `${module}.ts`), "utf8");
  for (const { from, to } of changes.filter((change) => change.module === module)) {
    const found = source.split(from).length - 1;
    if (found !== 1) {
      const where = `convex/${module}.ts has ${found} times`;
      throw new Error(`the change does not apply any more: ${where}\n${from}`);
    }
    source = source.replace(from, () => to);
  }
  return source;
}

/** What gives the functions other times. */
export function changesFor({ grace, delay }: Times): Change[] {
  return [
    { module: "leases", from: "GATHERING_GRACE = 10 * MINUTE", to: `GATHERING_GRACE = ${grace}` },
    { module: "verdicts", from: "5 * SECOND * 2 ** doublings", to: `${delay} * 2 ** doublings` },
  ];
}
