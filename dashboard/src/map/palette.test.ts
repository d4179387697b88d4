import { describe, expect, it } from "vitest";
import { HostState, VALUE_ABOVE, VALUE_BELOW, VALUE_MAX, VALUE_NONE } from "../wire/frame";
import { pixelTable, rampAt } from "./palette";

const SURFACE = { panel: [16, 21, 28], none: [38, 46, 56], down: [44, 20, 18] } as const;

function luminance([r, g, b]: readonly [number, number, number]): number {
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

describe("palette", () => {
  it("gets lighter all the way up, so that it reads without colour", () => {
    for (let i = 1; i <= VALUE_MAX; i++) {
      const step = luminance(rampAt(i / VALUE_MAX)) - luminance(rampAt((i - 1) / VALUE_MAX));
      expect(step).toBeGreaterThanOrEqual(-0.6);
    }
    expect(rampAt(-1)).toEqual(rampAt(0));
    expect(rampAt(2)).toEqual(rampAt(1));
  });

  it("has a pixel for each state and byte, and none for no host", () => {
    const table = pixelTable(SURFACE, false);
    const at = (state: number, byte: number): number => table[(state << 8) | byte] ?? -1;
    expect(at(HostState.None, 100)).toBe(0);
    expect(at(HostState.Ok, VALUE_ABOVE)).toBe(at(HostState.Ok, VALUE_MAX));
    expect(at(HostState.Ok, VALUE_BELOW)).toBe(at(HostState.Ok, 0));
    expect(at(HostState.Ok, VALUE_NONE)).toBe(0xff382e26);
    expect(at(HostState.Down, 0)).toBe(at(HostState.Down, VALUE_NONE));
    expect(at(HostState.Stale, 200)).not.toBe(at(HostState.Ok, 200));
    expect(pixelTable(SURFACE, true)[(1 << 8) | 200]).not.toBe(at(HostState.Ok, 200));
  });
});
