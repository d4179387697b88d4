import { describe, expect, it } from "vitest";
import { History } from "./history";

function filled(history: History): (number | null)[][] {
  const out: (number | null)[][] = [];
  history.fill(out);
  return out;
}

describe("history", () => {
  it("keeps the newest and forgets the oldest", () => {
    const history = new History(3, 2);
    for (let i = 1; i <= 5; i++) history.push(i * 1000, [i, -i]);
    expect(filled(history)).toEqual([
      [3, 4, 5],
      [3, 4, 5],
      [-3, -4, -5],
    ]);
    expect([history.length, history.newestMs]).toEqual([3, 5000]);
  });

  it("shows a gap as a gap, once", () => {
    const history = new History(8, 1);
    history.gap();
    history.push(1000, [7]);
    history.gap();
    history.gap();
    history.push(9000, [8]);
    expect(filled(history)).toEqual([
      [1, 1.001, 9],
      [7, null, 8],
    ]);
  });

  it("has null for what is not a number, and for what was not said", () => {
    const history = new History(4, 2);
    history.push(1000, [Number.NaN, 3]);
    history.push(2000, [4]);
    expect(filled(history).slice(1)).toEqual([
      [null, 4],
      [3, null],
    ]);
  });

  it("only goes forward in time", () => {
    const history = new History(4, 1);
    history.push(2000, [1]);
    history.push(2000, [2]);
    history.push(1000, [3]);
    expect(filled(history)).toEqual([[2], [1]]);
  });

  it("fills the same arrays again", () => {
    const history = new History(4, 1);
    const out: (number | null)[][] = [];
    history.push(1000, [1]);
    history.fill(out);
    const [times] = out;
    history.clear();
    history.fill(out);
    expect(out[0]).toBe(times);
    expect(out).toEqual([[], []]);
  });
});
