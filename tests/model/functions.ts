/** The functions as they are, or with one deliberate bug. */

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { build } from "esbuild";
import type { Module, Modules } from "../../localconvex/functions.ts";

/** One exact replacement in the source of one module. */
export type Change = { module: string; from: string; to: string };

export const SOURCE = path.resolve(import.meta.dirname, "../../convex");

/**
 * Build and import the functions, with *change* made to them.
 *
 * @throws Error when what the change replaces does not stand in its module exactly once.
 */
export async function loadFunctions(change?: Change): Promise<Modules> {
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
            if (change === undefined) return;
            const changed = path.join(SOURCE, `${change.module}.ts`);
            onLoad({ filter: /\.ts$/ }, ({ path: file }) =>
              file === changed ? { contents: changedSource(change), loader: "ts" } : undefined,
            );
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

function changedSource({ module, from, to }: Change): string {
  const source = fs.readFileSync(path.join(SOURCE, `${module}.ts`), "utf8");
  const found = source.split(from).length - 1;
  if (found !== 1) {
    throw new Error(
      `the bug does not apply any more: convex/${module}.ts has ${found} times\n${from}`,
    );
  }
  return source.replace(from, () => to);
}
