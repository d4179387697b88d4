import { describe as group, expect, it } from "vitest";
import type { Situation } from "./status";
import { describe } from "./status";

const OPEN: Situation = {
  phase: { name: "open" },
  paused: false,
  now: 100_000,
  ageMs: 120,
  paintAgeMs: 84.4,
  intervalMs: 100,
  whole: true,
  replay: false,
  obstacle: null,
};

function check(change: Partial<Situation>, text: string, grey: boolean): void {
  const status = describe({ ...OPEN, ...change });
  expect([status.text, status.grey]).toEqual([text, grey]);
}

group("status", () => {
  it("says live only of a whole and recent picture", () => {
    check({}, "Live · 84 ms", false);
    check({ whole: false }, "Resyncing", true);
    check({ ageMs: 999 }, "Live · 84 ms", false);
    check({ ageMs: 2_300 }, "Delayed 2.3 s", false);
    check({ ageMs: 5_001 }, "Delayed 5.0 s", true);
    check({ ageMs: 200_000 }, "Delayed 3 min", true);
    check({ ageMs: null, paintAgeMs: null }, "Connected", true);
    check({ replay: true }, "Replay", false);
    check({ replay: true, paused: true }, "Paused", true);
  });

  it("knows that slow views are old by nature", () => {
    check({ intervalMs: 1000, ageMs: 2_900 }, "Live · 84 ms", false);
    check({ intervalMs: 1000, ageMs: 3_100 }, "Delayed 3.1 s", false);
  });

  it("counts down to the retry and offers it now", () => {
    const phase = { name: "waiting", until: 103_001, code: 1012, opened: true } as const;
    check({ phase }, "Reconnecting in 4 s", true);
    const status = describe({ ...OPEN, phase });
    expect([status.retry, status.detail]).toEqual(["now", "The server is restarting"]);
    check({ phase: { ...phase, until: 99_000 } }, "Reconnecting in 0 s", true);
  });

  it("says paused whatever the network does, and when it was lost", () => {
    check({ paused: true, ageMs: 60_000 }, "Paused", true);
    const phase = { name: "waiting", until: 0, code: 1006, opened: true } as const;
    check({ paused: true, phase }, "Paused · connection lost", true);
  });

  it("says what is impossible", () => {
    check({ phase: { name: "impossible", why: "it has none" } }, "No WebSocket", true);
  });

  it("says no access even of a paused picture, and offers a try", () => {
    const phase = { name: "refused", why: "This token may not read" } as const;
    check({ phase, paused: true }, "No access", true);
    const status = describe({ ...OPEN, phase });
    expect([status.retry, status.detail]).toEqual(["try again", phase.why]);
  });
});
