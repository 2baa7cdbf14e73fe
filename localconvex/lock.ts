import { createHash } from "node:crypto";
import fs from "node:fs";
import net from "node:net";

/**
 * Hold *directory* for this process, until it ends.
 *
 * The lock is a name in Linux's abstract socket space: the kernel lets go of it when the process
 * ends, however it ends, and no file can be left behind.
 *
 * @throws Error when another process holds it.
 */
export async function lockDirectory(directory: string): Promise<void> {
  const name = createHash("sha256").update(fs.realpathSync(directory)).digest("hex");
  await new Promise<void>((resolve, reject) => {
    const lock = net.createServer((connection) => connection.destroy()).unref();
    lock.once("error", (error: NodeJS.ErrnoException) => {
      const taken = error.code === "EADDRINUSE";
      reject(taken ? new Error(`${directory} is in use by another local backend`) : error);
    });
    lock.listen({ path: `\0localconvex-${name}` }, resolve);
  });
}
