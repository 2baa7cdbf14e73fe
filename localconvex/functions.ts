import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { type BuildOptions, build, type Plugin, stop as stopBuilder } from "esbuild";

export type Kind = "query" | "mutation" | "action";
export type Module = Record<string, unknown>;

/** A function that a module exports, as far as its registration tells. */
export interface Registered {
  kind: Kind;
  internal: boolean;
}

/** The modules of a functions folder, by their path in it without extension. */
export type Modules = ReadonlyMap<string, Module>;

/**
 * Build the functions folder *source* into *target* and import its modules.
 *
 * @throws Error when the folder is missing, does not build, or a module fails when imported.
 */
export async function loadModules(source: string, target: string): Promise<Modules> {
  const files = functionFiles(source);
  if (files.length === 0) throw new Error(`no functions in ${source}`);
  fs.rmSync(target, { recursive: true, force: true });
  await build({ ...BUILD, entryPoints: files, outbase: source, outdir: target });
  await stopBuilder();
  const modules = new Map<string, Module>();
  for (const file of files) {
    const name = path.relative(source, file).replace(/\.[jt]sx?$/, "");
    modules.set(name, await import(pathToFileURL(path.join(target, `${name}.mjs`)).href));
  }
  return modules;
}

/** `dir/jobs.js:claim` as `dir/jobs:claim`; a path without a name means the default export. */
export function canonicalPath(functionPath: string): string {
  const [module, name] = functionPath.split(":");
  return `${module?.replace(/\.[jt]s$/, "")}:${name ?? "default"}`;
}

/** The function at *functionPath*, or undefined when there is none. */
export function findFunction(modules: Modules, functionPath: string): Registered | undefined {
  const [module, name] = functionPath.split(":") as [string, string];
  const found = modules.get(module)?.[name] as Record<string, unknown> | undefined;
  const internal = found?.isInternal === true;
  if (found?.isQuery) return { kind: "query", internal };
  if (found?.isMutation) return { kind: "mutation", internal };
  if (found?.isAction) return { kind: "action", internal };
  return undefined;
}

function functionFiles(source: string): string[] {
  return fs
    .readdirSync(source, { recursive: true, encoding: "utf8" })
    .filter((file) => !/(^|\/)(_generated|node_modules)\//.test(file))
    .filter((file) => /^[^.]+\.[jt]sx?$/.test(path.basename(file)))
    .map((file) => path.join(source, file))
    .sort();
}

// What `npx convex dev` would generate; that command wants a deployment, so its files may be absent.
const GENERATED: Record<string, string> = {
  server: `export { queryGeneric as query, mutationGeneric as mutation, actionGeneric as action,
    internalQueryGeneric as internalQuery, internalMutationGeneric as internalMutation,
    internalActionGeneric as internalAction, httpActionGeneric as httpAction } from "convex/server";`,
  api: `import { anyApi } from "convex/server"; export { anyApi as api, anyApi as internal };`,
  dataModel: "",
};

const generated: Plugin = {
  name: "generated",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /\/_generated\/(server|api|dataModel)(\.js)?$/ }, ({ path: file }) => ({
      path: path.basename(file, ".js"),
      namespace: "generated",
    }));
    onLoad({ filter: /.*/, namespace: "generated" }, ({ path: name }) => ({
      contents: GENERATED[name],
    }));
  },
};

// The functions share the engine's copy of the convex package, wherever they are built to.
const convexPackage: Plugin = {
  name: "convex-package",
  setup({ onResolve }) {
    onResolve({ filter: /^convex\// }, ({ path: name }) => ({
      path: import.meta.resolve(name),
      external: true,
    }));
  },
};

const BUILD: BuildOptions = {
  bundle: true,
  splitting: true,
  format: "esm",
  platform: "node",
  sourcemap: true,
  outExtension: { ".js": ".mjs" },
  plugins: [generated, convexPackage],
  logLevel: "silent",
};
