import { describe, expect, it } from "vitest";
import { formatAge, formatClock, formatNumber, formatTick, formatValue } from "./format";
import { describeByte, shortByte, valueOf } from "./scale";

describe("format", () => {
  it("numbers", () => {
    const cases: [number | null, string, string][] = [
      [53.2, "%", "53.2"],
      [0, "", "0.00"],
      [9.876, "", "9.88"],
      [99.96, "", "100.0"],
      [1240, "", "1.24k"],
      [-1240, "", "-1.24k"],
      [3.33e9, "B", "3.10Gi"],
      [0.0012, "s", "1.2e-3"],
      [Number.NaN, "", "–"],
      [null, "", "–"],
    ];
    for (const [value, unit, text] of cases) expect(formatNumber(value, unit)).toBe(text);
    expect(formatValue(53.2, "%")).toBe("53.2 %");
    expect(formatValue(null, "%")).toBe("–");
    expect([formatTick(20, "%"), formatTick(2e7, ""), formatTick(0.25, "")]).toEqual([
      "20",
      "20M",
      "0.25",
    ]);
  });

  it("ages and clocks", () => {
    const ages = [84.4, 2345, 61_000, 7_200_000].map(formatAge);
    expect(ages).toEqual(["84 ms", "2.3 s", "1 min", "2 h"]);
    expect(formatClock(1_763_918_083_000, true)).toBe("17:14:43");
  });
});

describe("scale", () => {
  it("turns bytes back into values", () => {
    expect([0, 126, 252].map((byte) => valueOf(byte, 0, 100))).toEqual([0, 50, 100]);
    expect([253, 254, 255].map((byte) => valueOf(byte, 0, 100))).toEqual([null, null, null]);
    expect(valueOf(252, -100, 500)).toBe(500);
  });

  it("says no more than a byte knows", () => {
    expect(describeByte(134, 0, 100, "%")).toBe("≈ 53.2 %");
    expect(describeByte(134, 0, 1, "")).toBe("≈ 0.532");
    expect(describeByte(134, 0, 5000, "B/s")).toBe("≈ 2.66k B/s");
    expect(describeByte(253, 10, 100, "%")).toBe("below 10.0 %");
    expect(describeByte(254, 10, 100, "%")).toBe("above 100 %");
    expect(describeByte(255, 0, 100, "%")).toBe("no value");
    expect([shortByte(134, 0, 100), shortByte(134, 0, 5)]).toEqual(["53", "2.66"]);
  });
});
