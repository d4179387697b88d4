import { describe, expect, it } from "vitest";
import { TOP_SHOWN, TopOrder } from "./top";

describe("top order", () => {
  it("sorts at most once a second, and values move in between", () => {
    const top = new TopOrder();
    top.update([1, 2], [90, 80], 0);
    expect(top.update([2, 1], [95, 91], 500)).toEqual([
      { slot: 1, value: 91 },
      { slot: 2, value: 95 },
    ]);
    expect(top.update([2, 1], [96, 91], 1000).map(({ slot }) => slot)).toEqual([2, 1]);
  });

  it("holds still under the pointer and owns up to rows that left", () => {
    const top = new TopOrder();
    top.update([1, 2], [90, 80], 0);
    top.held = true;
    expect(top.update([3, 1], [99, 90], 5000)).toEqual([
      { slot: 1, value: 90 },
      { slot: 2, value: null },
    ]);
    top.held = false;
    expect(top.update([3, 1], [99, 90], 5500).map(({ slot }) => slot)).toEqual([3, 1]);
  });

  it("shows no more rows than fit, though it knows more", () => {
    const slots = Array.from({ length: 2 * TOP_SHOWN }, (_, i) => i);
    expect(new TopOrder().update(slots, slots, 0)).toHaveLength(TOP_SHOWN);
  });
});
