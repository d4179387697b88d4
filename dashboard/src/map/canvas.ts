// The host map on a canvas. One pixel a host in an offscreen image, scaled up without smoothing:
// a frame of 10,000 hosts is 10,000 table look-ups and one `drawImage` a group. What has a shape
// (gaps, hatching, crosses, outlines) is drawn over it as a few whole paths.

import { HostState, VALUE_NONE } from "../wire/frame";
import type { MapPicture } from "../wire/picture";
import type { Group, Layout } from "./layout";
import { NO_LAYOUT, cellAt, cellOf } from "./layout";
import type { Surface } from "./palette";
import { css, inkOn, pixelTable } from "./palette";
import { shortByte } from "../util/scale";

export interface MapTheme extends Surface {
  readonly title: string;
  readonly count: string;
  readonly cross: string;
  readonly outline: string;
  readonly edge: string;
}

export interface Marks {
  /** Hosts a search means; null: no search. */
  readonly matches: ReadonlySet<number> | null;
  readonly hover: number;
  readonly selected: number;
}

/** From this cell size on (device pixels), gaps and shapes can be told apart. */
const SHAPES_FROM = 5;
/** From this cell size on (CSS pixels), a cell says its value. */
const NUMBERS_FROM = 30;

export class MapCanvas {
  readonly #canvas: HTMLCanvasElement;
  readonly #context: CanvasRenderingContext2D;
  readonly #image: HTMLCanvasElement;
  readonly #imageContext: CanvasRenderingContext2D;
  #pixels = new ImageData(1, 1);
  #words = new Uint32Array(this.#pixels.data.buffer);
  #theme: MapTheme;
  #bright: Uint32Array;
  #dim: Uint32Array;
  #layout: Layout = NO_LAYOUT;
  /** The shorter side of a cell. */
  #cell = 0;
  #gaps: CanvasPattern | null = null;
  #hatch: CanvasPattern | null = null;
  #ratio = 1;
  /** x, y pairs of the cells with a shape, refilled each frame. */
  readonly #stale: number[] = [];
  readonly #down: number[] = [];

  constructor(canvas: HTMLCanvasElement, theme: MapTheme) {
    this.#canvas = canvas;
    this.#context = context2d(canvas);
    this.#image = document.createElement("canvas");
    this.#imageContext = context2d(this.#image);
    this.#theme = theme;
    this.#bright = pixelTable(theme, false);
    this.#dim = pixelTable(theme, true);
  }

  setTheme(theme: MapTheme): void {
    this.#theme = theme;
    this.#bright = pixelTable(theme, false);
    this.#dim = pixelTable(theme, true);
    this.#makePatterns();
  }

  setLayout(layout: Layout, width: number, height: number, ratio: number): void {
    this.#layout = layout;
    this.#cell = Math.min(layout.cellWidth, layout.cellHeight);
    this.#ratio = ratio;
    if (this.#canvas.width !== width) this.#canvas.width = width;
    if (this.#canvas.height !== height) this.#canvas.height = height;
    if (layout.imageWidth === 0) return;
    this.#image.width = layout.imageWidth;
    this.#image.height = layout.imageHeight;
    this.#pixels = this.#imageContext.createImageData(layout.imageWidth, layout.imageHeight);
    this.#words = new Uint32Array(this.#pixels.data.buffer);
    this.#makePatterns();
  }

  paint(picture: MapPicture | null, marks: Marks): void {
    const context = this.#context;
    context.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
    if (picture === null || this.#layout.imageWidth === 0) return;
    this.#stale.length = 0;
    this.#down.length = 0;
    for (const group of this.#layout.groups) this.#fill(group, picture, marks);
    this.#imageContext.putImageData(this.#pixels, 0, 0);
    context.imageSmoothingEnabled = false;
    for (const group of this.#layout.groups) this.#drawGroup(group);
    if (this.#cell >= SHAPES_FROM) this.#drawShapes();
    if (this.#cell >= NUMBERS_FROM * this.#ratio) this.#drawNumbers(picture, marks);
    this.#outline(marks.selected, 2);
    this.#outline(marks.hover, 1);
  }

  #fill(group: Group, picture: MapPicture, marks: Marks): void {
    const { columns, imageY, slots } = group;
    const { cellWidth, cellHeight, imageWidth } = this.#layout;
    const values = picture.values;
    const states = picture.states;
    for (let i = 0; i < slots.length; i++) {
      const slot = slots[i] ?? 0;
      const state = states.at(slot);
      const table = marks.matches === null || marks.matches.has(slot) ? this.#bright : this.#dim;
      const column = i % columns;
      const row = (i - column) / columns;
      const word = table[(state << 8) | values.at(slot)] ?? 0;
      this.#words[(imageY + row) * imageWidth + column] = word;
      if (state !== HostState.Stale && state !== HostState.Down) continue;
      const shaped = state === HostState.Stale ? this.#stale : this.#down;
      shaped.push(group.cellsX + column * cellWidth, group.cellsY + row * cellHeight);
    }
  }

  #drawGroup(group: Group): void {
    const context = this.#context;
    const { columns, rows, cellsX, cellsY, imageY } = group;
    const width = columns * this.#layout.cellWidth;
    const height = rows * this.#layout.cellHeight;
    context.drawImage(this.#image, 0, imageY, columns, rows, cellsX, cellsY, width, height);
    if (this.#gaps !== null && this.#cell >= SHAPES_FROM - 1) {
      context.save();
      context.translate(cellsX, cellsY);
      context.fillStyle = this.#gaps;
      context.fillRect(0, 0, width, height);
      context.restore();
    }
    if (group.title !== "") this.#drawTitle(group);
  }

  #drawTitle(group: Group): void {
    const context = this.#context;
    const size = 11 * this.#ratio;
    const baseline = group.cellsY - 5 * this.#ratio;
    context.textBaseline = "alphabetic";
    context.font = `600 ${size}px system-ui, sans-serif`;
    const count = group.slots.length.toLocaleString("en");
    const room = group.width - (group.cellsX - group.x) * 2;
    const title = fitText(context, group.title, room);
    context.fillStyle = this.#theme.title;
    context.fillText(title, group.cellsX, baseline);
    const after = context.measureText(title).width + 6 * this.#ratio;
    context.font = `400 ${size}px system-ui, sans-serif`;
    if (after + context.measureText(count).width > room) return;
    context.fillStyle = this.#theme.count;
    context.fillText(count, group.cellsX + after, baseline);
  }

  #drawShapes(): void {
    const gap = gapOf(this.#cell);
    const width = this.#layout.cellWidth - gap;
    const height = this.#layout.cellHeight - gap;
    this.#hatchStale(width, height);
    this.#crossDown(width, height);
  }

  #hatchStale(width: number, height: number): void {
    if (this.#hatch === null || this.#stale.length === 0) return;
    const context = this.#context;
    context.beginPath();
    for (let i = 0; i < this.#stale.length; i += 2) {
      context.rect(this.#stale[i] ?? 0, this.#stale[i + 1] ?? 0, width, height);
    }
    context.fillStyle = this.#hatch;
    context.fill();
  }

  #crossDown(width: number, height: number): void {
    if (this.#down.length === 0) return;
    const context = this.#context;
    const arm = this.#cell * 0.28;
    context.beginPath();
    for (let i = 0; i < this.#down.length; i += 2) {
      const x = (this.#down[i] ?? 0) + width / 2;
      const y = (this.#down[i + 1] ?? 0) + height / 2;
      context.moveTo(x - arm, y - arm);
      context.lineTo(x + arm, y + arm);
      context.moveTo(x + arm, y - arm);
      context.lineTo(x - arm, y + arm);
    }
    context.strokeStyle = this.#theme.cross;
    context.lineWidth = Math.max(1, this.#cell * 0.13);
    context.stroke();
  }

  #drawNumbers(picture: MapPicture, marks: Marks): void {
    const context = this.#context;
    const { cellWidth, cellHeight } = this.#layout;
    const size = Math.round(Math.min(this.#cell * 0.3, 15 * this.#ratio));
    context.font = `500 ${size}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (const group of this.#layout.groups) {
      group.slots.forEach((slot, i) => {
        const byte = picture.values.at(slot);
        const shown = picture.states.at(slot) === HostState.Ok && byte !== VALUE_NONE;
        if (!shown || (marks.matches !== null && !marks.matches.has(slot))) return;
        const { x, y } = cellAt(this.#layout, group, i);
        context.fillStyle = inkOn(byte);
        const text = shortByte(byte, picture.lo, picture.hi);
        context.fillText(text, x + cellWidth / 2, y + cellHeight / 2);
      });
    }
    context.textAlign = "start";
  }

  #outline(slot: number, width: number): void {
    const cell = slot < 0 ? null : cellOf(this.#layout, slot);
    if (cell === null) return;
    const context = this.#context;
    const gap = gapOf(this.#cell);
    const least = 4 * this.#ratio;
    const line = width * this.#ratio;
    const wide = Math.max(this.#layout.cellWidth - gap, least) + 2 * line;
    const high = Math.max(this.#layout.cellHeight - gap, least) + 2 * line;
    context.strokeStyle = this.#theme.edge;
    context.lineWidth = line * 3;
    context.strokeRect(cell.x - line, cell.y - line, wide, high);
    context.strokeStyle = this.#theme.outline;
    context.lineWidth = line;
    context.strokeRect(cell.x - line, cell.y - line, wide, high);
  }

  #makePatterns(): void {
    const width = Math.max(1, Math.floor(this.#layout.cellWidth));
    const height = Math.max(1, Math.floor(this.#layout.cellHeight));
    const gap = gapOf(this.#cell);
    this.#gaps = tile(this.#context, width, height, (context) => {
      context.fillStyle = css(this.#theme.panel);
      context.fillRect(width - gap, 0, gap, height);
      context.fillRect(0, height - gap, width, gap);
    });
    const step = Math.max(3, Math.round(2.5 * this.#ratio));
    this.#hatch = tile(this.#context, step, step, (context) => {
      context.fillStyle = css(this.#theme.panel);
      for (let i = 0; i < step; i++) context.fillRect(i, step - 1 - i, 1, 1);
    });
  }
}

function gapOf(cell: number): number {
  if (cell < SHAPES_FROM - 1) return 0;
  return cell >= 24 ? 2 : 1;
}

function context2d(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
  const context = canvas.getContext("2d");
  if (context === null) throw new Error("this browser has no 2D canvas");
  return context;
}

function tile(
  target: CanvasRenderingContext2D,
  width: number,
  height: number,
  draw: (context: CanvasRenderingContext2D) => void,
): CanvasPattern | null {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  draw(context2d(canvas));
  return target.createPattern(canvas, "repeat");
}

function fitText(context: CanvasRenderingContext2D, text: string, room: number): string {
  if (context.measureText(text).width <= room) return text;
  let end = text.length;
  while (end > 0 && context.measureText(`${text.slice(0, end)}…`).width > room) end -= 1;
  return end === 0 ? "" : `${text.slice(0, end)}…`;
}
