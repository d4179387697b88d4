import { describe, expect, it, vi } from "vitest";
import type { Nodes } from "./nodes";
import { Missing, describeMissing } from "./nodes";

function peer(name: string, age_ms: number, state = "unreachable"): Nodes["peers"][number] {
  return { name, state, age_ms };
}

describe("describeMissing", () => {
  it("names who is silent and for how long", () => {
    const check = (peers: Nodes["peers"], text: string, sinceMs = 0): void => {
      expect(describeMissing({ linked: true, peers }, sinceMs)).toBe(text);
    };
    check([peer("b", 12_900)], "node b silent for 12 s");
    check([peer("b", 12_900), peer("c", 40, "reachable")], "node b silent for 13 s", 100);
    check([peer("b", 59_999)], "node b silent for 59 s");
    check([peer("b", 60_000)], "node b silent for 1 min");
    check([peer("b", 3_599_999)], "node b silent for 59 min");
    check([peer("b", 3_600_000)], "node b silent for 1 h");
    check([peer("c", 60_000), peer("b", 3_000)], "2 nodes silent: b for 3 s, c for 1 min");
    const five = ["b", "c", "d", "e", "f"].map((name) => peer(name, 3_000));
    check(five, "5 nodes silent: b for 3 s, c for 3 s, d for 3 s and 2 more");
    check([peer("b", 5, "joining"), peer("c", 3_000)], "node c silent for 3 s");
    check([peer("b", 5, "joining"), peer("c", 9_000, "left")], "node b is joining");
    check([peer("b", 5, "joining"), peer("c", 7, "joining")], "2 nodes are joining");
    check([peer("b", 5, "reachable"), peer("c", 9_000, "left")], "looking for other nodes");
  });

  it("says of a lost Redis how many are unseen, and since the last that was heard", () => {
    const check = (peers: Nodes["peers"], text: string): void => {
      expect(describeMissing({ linked: false, peers }, 500)).toBe(text);
    };
    check([], "Redis cannot be reached");
    check([peer("b", 1_500)], "Redis cannot be reached: 1 node unseen for 2 s");
    const several = [peer("b", 90_000), peer("c", 700, "reachable"), peer("d", 9, "left")];
    check(several, "Redis cannot be reached: 2 nodes unseen for 1 s");
  });
});

describe("Missing", () => {
  const silent: Nodes = { linked: true, peers: [peer("b", 3_000)] };

  it("asks at once and every two seconds, and lets the silence go on meanwhile", async () => {
    const ask = vi.fn(() => Promise.resolve(silent));
    const missing = new Missing(ask);
    expect(missing.words(false, true, 0)).toBe(null);
    expect(ask).toHaveBeenCalledTimes(0);
    expect(missing.words(true, true, 1_000)).toBe("a node is missing");
    await Promise.resolve();
    expect(missing.words(true, true, 1_250)).toBe("node b silent for 3 s");
    expect(missing.words(true, true, 2_999)).toBe("node b silent for 4 s");
    expect(ask).toHaveBeenCalledTimes(1);
    missing.words(true, true, 3_000);
    expect(ask).toHaveBeenCalledTimes(2);
  });

  it("neither asks nor counts on while the page stands still", async () => {
    const ask = vi.fn(() => Promise.resolve(silent));
    const missing = new Missing(ask);
    expect(missing.words(true, false, 9_000)).toBe("a node is missing");
    expect(ask).toHaveBeenCalledTimes(0);
    missing.words(true, true, 9_000);
    await Promise.resolve();
    expect(missing.words(true, true, 10_000)).toBe("node b silent for 4 s");
    expect(missing.words(true, false, 90_000)).toBe("node b silent for 4 s");
    expect(ask).toHaveBeenCalledTimes(1);
  });

  it("forgets when nobody is missing any more, an answer on its way too", async () => {
    const missing = new Missing(() => Promise.resolve(silent));
    missing.words(true, true, 0);
    missing.words(false, true, 250);
    await Promise.resolve();
    expect(missing.words(true, false, 500)).toBe("a node is missing");
  });

  it("says as much as the flag does when it gets no answer", async () => {
    const ask = vi.fn<() => Promise<Nodes>>(() => Promise.resolve(silent));
    const missing = new Missing(ask);
    missing.words(true, true, 0);
    await Promise.resolve();
    ask.mockImplementation(() => Promise.reject(new Error("404")));
    missing.words(true, true, 2_000);
    await new Promise((resolve) => setTimeout(resolve, 0));
    expect(missing.words(true, true, 2_250)).toBe("a node is missing");
  });
});
