import { describe, expect, it } from "vitest";
import type { Backfill } from "../wire/backfill";
import { History, alone } from "./history";

const REACH = 1_500;
const NAN = Number.NaN;

function filled(history: History): (number | null)[][] {
  const out: (number | null)[][] = [];
  history.fill(out);
  return out;
}

/** One line a list, ten seconds a step; null is a gap. */
function past(fromMs: number, ...lines: (number | null)[][]): Backfill {
  return {
    fromMs,
    stepMs: 10_000,
    lines: lines.map((_, i) => ({ expr: `l${i}`, group: null })),
    points: lines[0]?.length ?? 0,
    values: Float32Array.from(lines.flat(), (value) => value ?? NAN),
  };
}

/** A live point every second, its own time as its value. */
function live(history: History, fromS: number, toS: number): void {
  for (let s = fromS; s <= toS; s++) history.push(s * 1000, [s], REACH);
}

/** `time=value`, a gap as `time=`. */
function drawn(history: History): string {
  const [times, values] = filled(history);
  return (times ?? []).map((time, i) => `${Math.floor(time ?? 0)}=${values?.[i] ?? ""}`).join(" ");
}

describe("history", () => {
  it("keeps the newest and forgets the oldest", () => {
    const history = new History(3, 2);
    for (let i = 1; i <= 5; i++) history.push(i * 1000, [i, -i], REACH);
    expect(filled(history)).toEqual([
      [3, 4, 5],
      [3, 4, 5],
      [-3, -4, -5],
    ]);
    expect([history.length, history.newestMs]).toEqual([3, 5000]);
  });

  it("shows what is out of reach as a gap", () => {
    const history = new History(8, 1);
    history.push(1000, [7], REACH);
    history.push(2500, [8], REACH);
    history.push(4001, [9], REACH);
    expect(filled(history)).toEqual([
      [1, 2.5, 2.501, 4.001],
      [7, 8, null, 9],
    ]);
    history.push(8001, [1], 4_000);
    expect(drawn(history)).toBe("1=7 2=8 2= 4=9 8=1");
  });

  it("has null for what is not a number, and for what was not said", () => {
    const history = new History(4, 2);
    history.push(1000, [NAN, 3], REACH);
    history.push(2000, [4], REACH);
    expect(filled(history).slice(1)).toEqual([
      [null, 4],
      [3, null],
    ]);
  });

  it("only goes forward in time", () => {
    const history = new History(4, 1);
    history.push(2000, [1], REACH);
    history.push(2000, [2], REACH);
    history.push(1000, [3], REACH);
    expect(filled(history)).toEqual([[2], [1]]);
  });

  it("fills the same arrays again", () => {
    const history = new History(4, 1);
    const out: (number | null)[][] = [];
    history.push(1000, [1], REACH);
    history.fill(out);
    const [times] = out;
    history.clear();
    history.fill(out);
    expect(out[0]).toBe(times);
    expect(out).toEqual([[], []]);
  });
});

it("finds the points that no line goes through", () => {
  expect(alone([1, null, 2, 3, null, 4])).toEqual([0, 5]);
  expect(alone([null, 1, null])).toEqual([1]);
  expect(alone([1, 2])).toBeNull();
  expect(alone(undefined)).toBeNull();
});

describe("the past", () => {
  it("begins a page's lines, and live points go on from it", () => {
    const history = new History(64, 1);
    history.fillIn(past(10_000, [1, 2, 3]), [0]);
    live(history, 37, 38);
    expect(drawn(history)).toBe("10=1 20=2 30=3 37=37 38=38");
    live(history, 41, 41);
    expect(drawn(history)).toBe("10=1 20=2 30=3 37=37 38=38 38= 41=41");
  });

  it("comes after the first live points as well", () => {
    const history = new History(64, 1);
    live(history, 37, 38);
    history.fillIn(past(10_000, [1, 2, 3]), [0]);
    expect(drawn(history)).toBe("10=1 20=2 30=3 37=37 38=38");
  });

  it("has the gap of a server that was away, and none before its first value", () => {
    const history = new History(64, 1);
    history.fillIn(past(10_000, [null, null, 3, 4, null, null, 7]), [0]);
    live(history, 71, 71);
    expect(drawn(history)).toBe("30=3 40=4 50= 60= 70=7 71=71");
  });

  it("fills the hole of a lost connection, and leaves what was live", () => {
    const history = new History(64, 1);
    live(history, 12, 14);
    live(history, 52, 53);
    expect(drawn(history)).toBe("12=12 13=13 14=14 14= 52=52 53=53");
    history.fillIn(past(10_000, [1, 2, 3, 4, 5]), [0]);
    // The step that ends at 20 is told by what was live in it.
    expect(drawn(history)).toBe("10=1 12=12 13=13 14=14 30=3 40=4 50=5 52=52 53=53");
  });

  it("leaves the hole of a server that was away", () => {
    const history = new History(64, 1);
    live(history, 12, 13);
    live(history, 52, 53);
    history.fillIn(past(10_000, [1, 2, null, null, 5]), [0]);
    expect(drawn(history)).toBe("10=1 12=12 13=13 30= 40= 50=5 52=52 53=53");
  });

  it("leaves a hole that is shorter than its steps", () => {
    const history = new History(64, 1);
    live(history, 12, 13);
    live(history, 18, 19);
    history.fillIn(past(10_000, [1, 2]), [0]);
    expect(drawn(history)).toBe("10=1 12=12 13=13 13= 18=18 19=19");
  });

  it("takes the place of an earlier past, in the steps that it tells", () => {
    const history = new History(64, 1);
    history.fillIn(past(10_000, [1, 2, null]), [0]);
    live(history, 32, 32);
    history.fillIn(past(20_000, [22, 23, 24, 25]), [0]);
    expect(drawn(history)).toBe("10=1 20=22 30=23 32=32 50=25");
  });

  it("has its lines in the chart's order, a gap for one it lacks", () => {
    const history = new History(8, 3);
    history.fillIn(past(10_000, [1, 2], [3, null]), [1, -1, 0]);
    expect(filled(history).slice(1)).toEqual([
      [3, null],
      [null, null],
      [1, 2],
    ]);
  });

  it("of nothing is nothing", () => {
    const history = new History(8, 1);
    history.fillIn(past(10_000, [null, null]), [0]);
    history.fillIn(past(10_000, [1, 2]), [-1]);
    expect(filled(history)).toEqual([[], []]);
  });

  it("gives way where there is no room: the newest stay", () => {
    const history = new History(4, 1);
    live(history, 41, 43);
    history.fillIn(past(10_000, [1, 2, 3, 4]), [0]);
    expect(drawn(history)).toBe("40=4 41=41 42=42 43=43");
  });
});
