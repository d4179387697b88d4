// Where each host's cell is: groups as an ordered strip treemap, one cell size for all.
//
// All lengths are device pixels. Slots keep their order inside a group and groups are ordered by
// name, so that a host stays where it is while the fleet does.

export interface Members {
  readonly title: string;
  readonly slots: readonly number[];
}

export interface Group extends Members {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  /** Top left of the cells. */
  readonly cellsX: number;
  readonly cellsY: number;
  readonly columns: number;
  readonly rows: number;
  /** First row in the offscreen image, where each host is one pixel. */
  readonly imageY: number;
}

export interface Layout {
  readonly groups: readonly Group[];
  readonly cell: number;
  readonly imageWidth: number;
  readonly imageHeight: number;
}

export interface Room {
  readonly width: number;
  readonly height: number;
  readonly titleHeight: number;
  readonly padding: number;
  readonly cellMax: number;
}

interface Rect {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** Each try feeds the cell size it found back into the share that titles and edges need. */
const TRIES = 5;
const CELL_MIN = 0.25;
/** A group's area counts as at least this share of the whole, so that its title can be read. */
const SHARE_MIN = 0.012;

export function layOut(members: readonly Members[], room: Room): Layout {
  const groups = members.filter((group) => group.slots.length > 0);
  const total = groups.reduce((sum, group) => sum + group.slots.length, 0);
  if (total === 0 || room.width < 1 || room.height < 1) {
    return { groups: [], cell: 0, imageWidth: 0, imageHeight: 0 };
  }
  let cell = Math.sqrt((room.width * room.height) / total);
  let best: { cell: number; rects: Rect[] } | null = null;
  for (let i = 0; i < TRIES; i++) {
    const rects = strips(weights(groups, total, cell, room), room.width, room.height);
    cell = commonCell(groups, rects, room);
    if (best === null || cell > best.cell) best = { cell, rects };
  }
  return place(groups, best?.rects ?? [], best?.cell ?? CELL_MIN, room);
}

function weights(groups: readonly Members[], total: number, cell: number, room: Room): number[] {
  const least = total * SHARE_MIN * cell * cell;
  return groups.map(({ slots }) => {
    const side = Math.sqrt(slots.length) * cell;
    const frame = (room.titleHeight + 2 * room.padding) * side + 2 * room.padding * side;
    return Math.max(least, side * side + frame + cell * side);
  });
}

/**
 * Ordered strip treemap (Bederson, Shneiderman, Wattenberg 2002): fills rows from the top, starts a
 * new one when the mean aspect ratio would get worse.
 */
export function strips(sizes: readonly number[], width: number, height: number): Rect[] {
  const scale = (width * height) / sizes.reduce((sum, size) => sum + size, 0);
  const rects: Rect[] = [];
  let y = 0;
  let strip: number[] = [];
  const close = (): void => {
    const rowHeight = strip.reduce((sum, area) => sum + area, 0) / width;
    let x = 0;
    for (const area of strip) {
      rects.push({ x, y, width: area / rowHeight, height: rowHeight });
      x += area / rowHeight;
    }
    y += rowHeight;
    strip = [];
  };
  for (const size of sizes) {
    const area = size * scale;
    if (strip.length > 0 && aspect([...strip, area], width) > aspect(strip, width)) close();
    strip.push(area);
  }
  close();
  return rects;
}

function aspect(strip: readonly number[], width: number): number {
  const height = strip.reduce((sum, area) => sum + area, 0) / width;
  const ratios = strip.map((area) => {
    const ratio = area / height / height;
    return ratio > 1 ? ratio : 1 / ratio;
  });
  return ratios.reduce((sum, ratio) => sum + ratio, 0) / ratios.length;
}

function inner(rect: Rect, room: Room): { width: number; height: number } {
  return {
    width: Math.max(1, Math.floor(rect.width - 2 * room.padding)),
    height: Math.max(1, Math.floor(rect.height - room.titleHeight - 2 * room.padding)),
  };
}

/** The largest size at which every group's hosts fit: equal cells can be compared by eye. */
function commonCell(groups: readonly Members[], rects: readonly Rect[], room: Room): number {
  let cell = room.cellMax;
  groups.forEach((group, i) => {
    const rect = rects[i];
    if (!rect) return;
    const { width, height } = inner(rect, room);
    while (cell > CELL_MIN && !fits(group.slots.length, width, height, cell)) cell = smaller(cell);
  });
  return cell;
}

function fits(hosts: number, width: number, height: number, cell: number): boolean {
  return Math.floor(width / cell) * Math.floor(height / cell) >= hosts;
}

function smaller(cell: number): number {
  return cell > 1 ? Math.ceil(cell) - 1 : cell / 2;
}

function place(
  members: readonly Members[],
  rects: readonly Rect[],
  cell: number,
  room: Room,
): Layout {
  const groups: Group[] = [];
  let imageWidth = 0;
  let imageY = 0;
  members.forEach((group, i) => {
    const rect = rects[i];
    if (!rect) return;
    const columns = Math.max(1, Math.floor(inner(rect, room).width / cell));
    const rows = Math.ceil(group.slots.length / columns);
    groups.push({
      ...group,
      x: Math.round(rect.x),
      y: Math.round(rect.y),
      width: Math.round(rect.width),
      height: Math.round(rect.height),
      cellsX: Math.round(rect.x + room.padding),
      cellsY: Math.round(rect.y + room.padding + room.titleHeight),
      columns,
      rows,
      imageY,
    });
    imageWidth = Math.max(imageWidth, columns);
    imageY += rows;
  });
  return { groups, cell, imageWidth, imageHeight: imageY };
}

/** The slot drawn at a point, or -1. */
export function slotAt(layout: Layout, x: number, y: number): number {
  for (const group of layout.groups) {
    const column = Math.floor((x - group.cellsX) / layout.cell);
    const row = Math.floor((y - group.cellsY) / layout.cell);
    if (column < 0 || row < 0 || column >= group.columns || row >= group.rows) continue;
    return group.slots[row * group.columns + column] ?? -1;
  }
  return -1;
}

export interface Cell {
  readonly group: Group;
  readonly index: number;
  readonly x: number;
  readonly y: number;
}

/** Where a slot is drawn; a search, so for the one or two cells that are pointed at. */
export function cellOf(layout: Layout, slot: number): Cell | null {
  for (const group of layout.groups) {
    const index = group.slots.indexOf(slot);
    if (index >= 0) return cellAt(layout, group, index);
  }
  return null;
}

export function cellAt(layout: Layout, group: Group, index: number): Cell {
  const x = group.cellsX + (index % group.columns) * layout.cell;
  const y = group.cellsY + Math.floor(index / group.columns) * layout.cell;
  return { group, index, x, y };
}

/** The neighbour of a slot for the arrow keys; stays where it is at an edge of the map. */
export function neighbour(layout: Layout, slot: number, dx: number, dy: number): number {
  const here = cellOf(layout, slot);
  if (!here) return layout.groups[0]?.slots[0] ?? -1;
  const step = dx + dy * here.group.columns;
  const inside = here.group.slots[here.index + step];
  if (inside !== undefined) return inside;
  const next = layout.groups[layout.groups.indexOf(here.group) + Math.sign(step)];
  const entered = step > 0 ? next?.slots[0] : next?.slots[next.slots.length - 1];
  return entered ?? slot;
}
