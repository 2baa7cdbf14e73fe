/** An application of somebody else, with the functions copied to `convex/fondation/`. */

import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { GenericSchema, SchemaDefinition } from "convex/server";

export const project = fileURLToPath(new URL("../..", import.meta.url));

/** What `npx convex codegen` writes, as far as these tests need it. */
const GENERATED = {
  "api.js": `export { anyApi as api } from "convex/server";`,
  "server.js": `export { mutationGeneric as mutation, queryGeneric as query } from "convex/server";`,
  "server.d.ts": `
    import type { DataModelFromSchemaDefinition, MutationBuilder, QueryBuilder } from "convex/server";
    import type schema from "../schema.js";
    type DataModel = DataModelFromSchemaDefinition<typeof schema>;
    export declare const mutation: MutationBuilder<DataModel, "public">;
    export declare const query: QueryBuilder<DataModel, "public">;`,
};

export class Application {
  readonly directory: string;

  private constructor(directory: string) {
    this.directory = directory;
  }

  /** Make one in a directory of its own, with the functions but nothing else. */
  static async create(): Promise<Application> {
    const application = new Application(await mkdtemp(join(tmpdir(), "application-")));
    await symlink(join(project, "node_modules"), join(application.directory, "node_modules"));
    const copy = join(application.directory, "convex/fondation");
    await cp(join(project, "convex"), copy, { recursive: true });
    const constant = await readFile(join(copy, "folder.ts"), "utf8");
    const folder = constant.replace('folder = ""', 'folder = "fondation/"');
    await application.write("convex/fondation/folder.ts", folder);
    return application;
  }

  async remove(): Promise<void> {
    await rm(this.directory, { recursive: true });
  }

  async write(path: string, text: string): Promise<void> {
    await writeFile(join(this.directory, path), text);
  }

  /** Write the file that the README shows under this title: its path, and what is special. */
  async follow(title: string): Promise<void> {
    const readme = await readFile(join(project, "convex/README.md"), "utf8");
    const examples = [...readme.matchAll(/^```ts\n\/\/ ([^\n]*)\n(.*?)^```$/gms)];
    const example = examples.find(([, shown]) => shown === title)?.[2];
    if (example === undefined) throw new Error(`the README has no example "${title}"`);
    await this.write(title.split(" ", 1)[0] as string, example);
  }

  /** Do what `npx convex codegen` does. */
  async generate(): Promise<void> {
    await mkdir(join(this.directory, "convex/_generated"));
    for (const [name, text] of Object.entries(GENERATED)) {
      await this.write(`convex/_generated/${name}`, text);
    }
    const names = (await this.#paths()).map((path) => path.replace(/\.ts$/, ""));
    const modules = names.map((name) => `"${name}": typeof import("../${name}.js");`);
    await this.write(
      "convex/_generated/api.d.ts",
      `import type { ApiFromModules, FilterApi, FunctionReference } from "convex/server";
       declare const all: ApiFromModules<{ ${modules.join("\n")} }>;
       export declare const api: FilterApi<typeof all, FunctionReference<any, "public">>;`,
    );
  }

  /** The modules by path, as the test engine wants them. */
  async modules(): Promise<Record<string, () => Promise<unknown>>> {
    const generated = { "/convex/_generated/api.js": async () => ({}) };
    const modules = (await this.#paths()).map((path) => [`/convex/${path}`, () => this.load(path)]);
    return { ...generated, ...Object.fromEntries(modules) };
  }

  /** Its module at this path below `convex/`. */
  async load<Module>(path: string): Promise<Module> {
    return await import(/* @vite-ignore */ join(this.directory, "convex", path));
  }

  async schema(): Promise<SchemaDefinition<GenericSchema, boolean>> {
    const { default: schema } = await this.load<{
      default: SchemaDefinition<GenericSchema, boolean>;
    }>("schema.ts");
    return schema;
  }

  async #paths(): Promise<string[]> {
    const top = join(this.directory, "convex");
    const all = await readdir(top, { recursive: true });
    return all.filter((path) => path.endsWith(".ts") && !basename(path).endsWith(".d.ts"));
  }
}
