import { afterEach, expect, test, vi } from "vitest";
import { deploy, handIn } from "./deployment";

afterEach(() => vi.useRealTimers());

test("a job goes from the queue to a saved result", async () => {
  const convex = await deploy();
  const jobId = await convex.enqueue();
  const { answer, token } = await convex.claim();
  expect(answer.job).toMatchObject({ id: jobId, attempt: 1, attempts: 0, maxAttempts: 5 });
  await convex.work("heartbeat", { ...token, beat: 1, status: "cloning", progress: "cloning" });
  await convex.work("heartbeat", { ...token, beat: 2, status: "gathering" });
  const { document, digest } = await handIn(0);
  expect(await convex.work("stageDocs", { ...token, docs: [document] })).toEqual({ staged: 1 });
  const done = await convex.work("complete", {
    ...token,
    digests: [digest],
    message: "1 document",
  });
  expect(done).toMatchObject({ status: "completed", docsCount: 1 });
  expect(await convex.job(jobId)).toMatchObject({
    status: "completed",
    attempts: 1,
    docsCount: 1,
    result: { success: true, message: "1 document" },
  });
  expect(await convex.docs(jobId)).toMatchObject([
    { slug: "chapter-0", content: document.content },
  ]);
});
