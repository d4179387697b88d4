import { describe, expect, it } from "vitest";
import type { Layout, Members, Room } from "./layout";
import { cellOf, layOut, neighbour, slotAt } from "./layout";

const ROOM: Room = { width: 1000, height: 540, titleHeight: 20, padding: 6, cellMax: 64 };

/** Groups of these sizes, slots numbered through. */
function members(...sizes: number[]): Members[] {
  let next = 0;
  return sizes.map((size, i) => {
    const slots = Array.from({ length: size }, () => next++);
    return { title: `g${i}`, slots };
  });
}

/** Every host inside the room, no two in one place, and found again where it is drawn. */
function verify(layout: Layout, groups: readonly Members[], room: Room): void {
  const places = new Set<string>();
  for (const slot of groups.flatMap((group) => group.slots)) {
    const cell = cellOf(layout, slot);
    if (!cell) throw new Error(`slot ${slot} is nowhere`);
    expect(cell.x + layout.cellWidth).toBeLessThanOrEqual(room.width);
    expect(cell.y + layout.cellHeight).toBeLessThanOrEqual(room.height);
    places.add(`${cell.x} ${cell.y}`);
    const middle = [cell.x + layout.cellWidth / 2, cell.y + layout.cellHeight / 2] as const;
    expect(slotAt(layout, ...middle)).toBe(slot);
  }
  expect(places.size).toBe(groups.reduce((sum, group) => sum + group.slots.length, 0));
}

describe("layout", () => {
  const cases: [string, number[], Room][] = [
    ["one host", [1], ROOM],
    ["no groups", [200], { ...ROOM, titleHeight: 0, padding: 0 }],
    ["five roles", [37, 36, 36, 36, 55], ROOM],
    ["one giant, some dwarfs", [900, 1, 1, 1, 3], ROOM],
    ["many small", Array.from({ length: 48 }, (_, i) => 1 + (i % 7)), ROOM],
    ["a phone", [40, 60, 80], { ...ROOM, width: 350, height: 440 }],
    ["a strip", [40, 60, 80], { ...ROOM, width: 900, height: 90 }],
  ];
  for (const [name, sizes, room] of cases) {
    it(`gives every host a place: ${name}`, () => {
      const groups = members(...sizes);
      verify(layOut(groups, room), groups, room);
    });
  }

  it("lays 10,000 hosts out in cells that can be pointed at", () => {
    const groups = members(2941, 2355, 2352, 2352);
    const layout = layOut(groups, ROOM);
    expect(layout.cellWidth).toBeGreaterThanOrEqual(6);
    expect(layout.cellHeight / layout.cellWidth).toBeLessThanOrEqual(1.3);
    expect(layout.groups.map((group) => group.title)).toEqual(["g0", "g1", "g2", "g3"]);
  });

  it("goes below a pixel rather than hide hosts", () => {
    const groups = members(65_536);
    const room = { ...ROOM, titleHeight: 0, padding: 0, width: 150, height: 150 };
    const layout = layOut(groups, room);
    expect(layout.cellWidth).toBe(0.5);
    const cell = cellOf(layout, 65_535);
    expect(cell && cell.y < 150).toBe(true);
  });

  it("has one image row for each row of cells, none shared", () => {
    const layout = layOut(members(100, 50, 25), ROOM);
    let next = 0;
    for (const group of layout.groups) {
      expect(group.imageY).toBe(next);
      next += group.rows;
      expect(group.columns).toBeLessThanOrEqual(layout.imageWidth);
    }
    expect(layout.imageHeight).toBe(next);
  });

  it("is empty without hosts or room", () => {
    expect(layOut([], ROOM).groups).toEqual([]);
    expect(layOut(members(0, 0), ROOM).groups).toEqual([]);
    expect(layOut(members(9), { ...ROOM, width: 0 }).groups).toEqual([]);
  });

  it("finds nothing between and beyond the cells", () => {
    const layout = layOut(members(10, 10), ROOM);
    expect(slotAt(layout, 1, 1)).toBe(-1);
    expect(slotAt(layout, 999, 539)).toBe(-1);
    expect(cellOf(layout, 20)).toBe(null);
  });

  it("moves by arrow keys through and across groups", () => {
    const layout = layOut(members(10, 10), ROOM);
    expect(neighbour(layout, -1, 1, 0)).toBe(0);
    expect(neighbour(layout, 0, 1, 0)).toBe(1);
    expect(neighbour(layout, 9, 1, 0)).toBe(10);
    expect(neighbour(layout, 10, -1, 0)).toBe(9);
    expect(neighbour(layout, 19, 1, 0)).toBe(19);
  });
});
