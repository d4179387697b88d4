import { defineConfig } from "vitest/config";

// One file after the other: each has a browser and a server, and its story a beginning and an end.
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
