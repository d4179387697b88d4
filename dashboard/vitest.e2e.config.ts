import { defineConfig } from "vitest/config";

// One browser, one server, in order: the story of `wall.e2e.ts` has a beginning and an end.
export default defineConfig({
  test: {
    environment: "node",
    include: ["e2e/**/*.e2e.ts"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    fileParallelism: false,
    bail: 1,
  },
});
