// Where each host's cell is: groups side by side in rows of equal height, one cell size for all.
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
  /** A cell is this wide and high, edges included; nearly square. */
  readonly cellWidth: number;
  readonly cellHeight: number;
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

/** Groups that stand side by side: `tall` cells high, together as wide as the room. */
interface Row {
  readonly groups: readonly Members[];
  readonly tall: number;
}

const CELL_MIN = 0.25;
/** How far a cell may leave the square to fill what whole pixels would leave empty. */
const STRETCH_MAX = 1.3;
export const NO_LAYOUT: Layout = {
  groups: [],
  cellWidth: 0,
  cellHeight: 0,
  imageWidth: 0,
  imageHeight: 0,
};

/** The largest cell with which all hosts fit: equal cells can be compared by eye. */
export function layOut(members: readonly Members[], room: Room): Layout {
  const groups = members.filter((group) => group.slots.length > 0);
  const total = groups.reduce((sum, group) => sum + group.slots.length, 0);
  if (total === 0 || room.width < 1 || room.height < 1) return NO_LAYOUT;
  const splits = groups.map((_, i) => split(groups, total, i + 1));
  const roomy = Math.floor(Math.sqrt((room.width * room.height) / total));
  let cell = roomy < 1 ? 0.5 : Math.min(room.cellMax, roomy);
  for (;;) {
    const best = squarest(splits, cell, room);
    if (best !== null) return place(best, cell, room);
    if (cell <= CELL_MIN) return place(stack(groups, cell, room), cell, room);
    cell = cell > 1 ? Math.ceil(cell) - 1 : cell / 2;
  }
}

/** In order, cut where a row has its share of the hosts. May give fewer rows than asked for. */
function split(groups: readonly Members[], total: number, rows: number): Members[][] {
  const cut: Members[][] = [];
  let row: Members[] = [];
  let before = 0;
  for (const group of groups) {
    const middle = before + group.slots.length / 2;
    if (row.length > 0 && middle > (total * (cut.length + 1)) / rows) {
      cut.push(row);
      row = [];
    }
    row.push(group);
    before += group.slots.length;
  }
  cut.push(row);
  return cut;
}

/** Of the ways to split that fit the room, the one whose groups are nearest to squares. */
function squarest(splits: readonly Members[][][], cell: number, room: Room): Row[] | null {
  let best: { rows: Row[]; oblong: number } | null = null;
  for (const cut of splits) {
    const rows = cut.map((groups) => rowOf(groups, cell, room)).filter((row) => row !== null);
    const height = rows.reduce((sum, row) => sum + rowHeight(row, cell, room), 0);
    if (rows.length < cut.length || height > room.height) continue;
    const oblong = rows.reduce((sum, row) => sum + oblongness(row), 0);
    if (best === null || oblong < best.oblong) best = { rows, oblong };
  }
  return best?.rows ?? null;
}

/** 0 for squares; a group twice as wide as high counts like one twice as high as wide. */
function oblongness(row: Row): number {
  return row.groups.reduce((sum, group) => {
    const columns = Math.ceil(group.slots.length / row.tall);
    return sum + Math.abs(Math.log(columns / row.tall));
  }, 0);
}

function rowHeight(row: Row, cellHeight: number, room: Room): number {
  return row.tall * cellHeight + room.titleHeight + 2 * room.padding;
}

/** The lowest height at which these groups fit side by side; null: not even as single columns. */
function rowOf(groups: readonly Members[], cell: number, room: Room): Row | null {
  const wide = Math.floor((room.width - groups.length * 2 * room.padding) / cell);
  if (wide < groups.length) return null;
  const total = groups.reduce((sum, group) => sum + group.slots.length, 0);
  let tall = Math.ceil(total / wide);
  while (columnsOf(groups, tall) > wide) tall += 1;
  return { groups, tall };
}

function columnsOf(groups: readonly Members[], tall: number): number {
  return groups.reduce((sum, group) => sum + Math.ceil(group.slots.length / tall), 0);
}

/** Nothing fits: one below the other, past the edge. Only a fleet larger than its pixels. */
function stack(groups: readonly Members[], cell: number, room: Room): Row[] {
  const wide = Math.max(1, Math.floor((room.width - 2 * room.padding) / cell));
  return groups.map((group) => ({ groups: [group], tall: Math.ceil(group.slots.length / wide) }));
}

function place(rows: readonly Row[], cell: number, room: Room): Layout {
  const [cellWidth, cellHeight] = stretch(rows, cell, room);
  const groups: Group[] = [];
  let imageWidth = 0;
  let imageY = 0;
  let y = 0;
  for (const row of rows) {
    const height = rowHeight(row, cellHeight, room);
    let x = 0;
    for (const members of row.groups) {
      const columns = Math.ceil(members.slots.length / row.tall);
      const tall = Math.ceil(members.slots.length / columns);
      const width = columns * cellWidth + 2 * room.padding;
      const cellsX = x + room.padding;
      const cellsY = y + room.padding + room.titleHeight;
      const where = { x, y, width, height, cellsX, cellsY, columns, rows: tall, imageY };
      groups.push({ ...members, ...where });
      imageWidth = Math.max(imageWidth, columns);
      imageY += tall;
      x += width;
    }
    y += height;
  }
  return { groups, cellWidth, cellHeight, imageWidth, imageHeight: imageY };
}

/** Whole pixels only, so that no cell is blurred or larger than its neighbour. */
function stretch(rows: readonly Row[], cell: number, room: Room): [number, number] {
  if (cell < 1) return [cell, cell];
  const most = Math.floor(Math.min(cell * STRETCH_MAX, room.cellMax));
  const wide = rows.map(({ groups, tall }) => {
    const left = room.width - groups.length * 2 * room.padding;
    return Math.floor(left / columnsOf(groups, tall));
  });
  const frames = rows.length * (room.titleHeight + 2 * room.padding);
  const tall = rows.reduce((sum, row) => sum + row.tall, 0);
  const high = Math.floor((room.height - frames) / tall);
  const within = (size: number): number => Math.max(cell, Math.min(most, size));
  return [within(Math.min(...wide)), within(high)];
}

/** The slot drawn at a point, or -1. */
export function slotAt(layout: Layout, x: number, y: number): number {
  for (const group of layout.groups) {
    const column = Math.floor((x - group.cellsX) / layout.cellWidth);
    const row = Math.floor((y - group.cellsY) / layout.cellHeight);
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
  const x = group.cellsX + (index % group.columns) * layout.cellWidth;
  const y = group.cellsY + Math.floor(index / group.columns) * layout.cellHeight;
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
