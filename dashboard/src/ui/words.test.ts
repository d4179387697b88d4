import { expect, it } from "vitest";
import { heardWords } from "./words";

it("says when a host was heard, how often, and by which node", () => {
  const heard = { ageMs: 4_000, intervalMs: 1_000, node: "b" };
  expect(heardWords(heard)).toBe("last heard 4.0 s ago, every 1.0 s, by node b");
  expect(heardWords({ ...heard, node: null })).toBe("last heard 4.0 s ago, every 1.0 s");
  expect(heardWords({ ...heard, intervalMs: 0 })).toBe("last heard 4.0 s ago, by node b");
});
