import { beforeEach, describe, expect, it } from "vitest";
import type { Backfill } from "../wire/backfill";
import { LinesPicture } from "../wire/picture";
import { LinesFeed } from "./feed";
import { History } from "./history";

const INTERVAL = 500;

describe("the chart's feed", () => {
  let history: History;
  let feed: LinesFeed;
  let asked: number;

  beforeEach(() => {
    asked = 0;
    history = new History(64, 2);
    feed = new LinesFeed(history, ["p50(cpu)", "max(cpu)"], () => (asked += 1));
  });

  /** A frame of this time that came at that. */
  function frame(timeMs: number, nowMs = timeMs): void {
    const picture = new LinesPicture();
    picture.timeMs = timeMs;
    picture.values.data = Float32Array.of(1, 2);
    picture.values.length = 2;
    feed.came(picture, INTERVAL, nowMs);
  }

  it("asks for what was missed, once", () => {
    frame(1_000);
    frame(11_000);
    expect(asked).toBe(0);
    frame(21_001);
    expect(asked).toBe(1);
    frame(35_000);
    expect(asked).toBe(1);
    frame(60_000);
    expect(asked).toBe(2);
  });

  it("does not ask when the subscription just did, and is not answered", () => {
    const nothing = { fromMs: 1, stepMs: 1, lines: [], points: 0, values: new Float32Array() };
    frame(1_000);
    feed.asked(90_000);
    frame(100_000);
    expect(asked).toBe(0);
    feed.told(nothing);
    frame(110_001);
    expect(asked).toBe(1);
  });

  it("knows its lines by what they say", () => {
    const line = (expr: string) => ({ expr, group: null });
    const backfill: Backfill = {
      fromMs: 10_000,
      stepMs: 10_000,
      lines: [line("max(cpu)"), line("p50(cpu)")],
      points: 2,
      values: Float32Array.of(98, 99, 49, 50),
    };
    feed.told(backfill);
    const out: (number | null)[][] = [];
    history.fill(out);
    expect(out).toEqual([
      [10, 20],
      [49, 50],
      [98, 99],
    ]);
  });

  it("shows a replay alone, and asks for nothing meanwhile", () => {
    const past = (timeMs: number): void => {
      const picture = new LinesPicture();
      picture.timeMs = timeMs;
      picture.values.data = Float32Array.of(timeMs / 1_000, 2);
      picture.values.length = 2;
      feed.rewound(picture);
    };
    for (const timeMs of [10_000, 20_000, 40_000, 90_000]) past(timeMs);
    const out: (number | null)[][] = [];
    history.fill(out);
    expect(out[0]).toEqual([10, 20, 40, 40.001, 90]);
    past(30_000);
    history.fill(out);
    expect([out[0], out[1], asked]).toEqual([[30], [30], 0]);
  });

  it("begins anew with another metric", () => {
    frame(1_000);
    feed = new LinesFeed(history, ["p50(mem)"], () => undefined);
    expect(history.length).toBe(0);
  });
});
