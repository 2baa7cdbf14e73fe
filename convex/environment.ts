/** The deployment's environment variables. */

// Declared here because an application may be without `@types/node`.
declare const process: { env: Record<string, string | undefined> };

/** The value of the environment variable `name`, undefined when it is not set. */
export function environment(name: string): string | undefined {
  return process.env[name];
}
