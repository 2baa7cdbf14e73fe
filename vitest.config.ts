import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["tests/{convex,model}/**/*.test.ts"],
    // One process for each file: keys and clocks are set for the whole process.
    isolate: true,
    testTimeout: 20_000,
  },
});
