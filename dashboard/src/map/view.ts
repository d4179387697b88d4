// The host map as a thing on the page: its size, its layout, what is pointed at.

import type { Hosts } from "../live/hosts";
import type { MapPicture } from "../wire/picture";
import type { MapTheme } from "./canvas";
import { MapCanvas } from "./canvas";
import { groupHosts, parseSearch } from "./groups";
import type { Layout } from "./layout";
import { NO_LAYOUT, cellOf, layOut, neighbour, slotAt } from "./layout";

const TITLE_PX = 20;
const PADDING_PX = 6;
const CELL_PX_MAX = 64;

export interface Pointed {
  readonly slot: number;
  readonly x: number;
  readonly y: number;
}

export interface MapEvents {
  pointed(pointed: Pointed | null): void;
  chosen(slot: number): void;
  /** Something to draw without a frame. */
  dirty(): void;
}

/** Invariant: `#layout` fits `#laidOutFor`; it is made anew at the next paint when that changed. */
export class MapView {
  readonly #canvas: HTMLCanvasElement;
  readonly #painter: MapCanvas;
  readonly #hosts: Hosts;
  readonly #events: MapEvents;
  #layout: Layout = NO_LAYOUT;
  #laidOutFor = "";
  #searchedFor = "";
  #matches: Set<number> | null = null;
  #hover = -1;
  selected = -1;
  group = "";
  search = "";

  constructor(canvas: HTMLCanvasElement, theme: MapTheme, hosts: Hosts, events: MapEvents) {
    this.#canvas = canvas;
    this.#painter = new MapCanvas(canvas, theme);
    this.#hosts = hosts;
    this.#events = events;
    new ResizeObserver(() => events.dirty()).observe(canvas);
    canvas.addEventListener("pointermove", (event) => this.#pointer(event));
    canvas.addEventListener("pointerleave", () => this.#point(-1));
    canvas.addEventListener("blur", () => this.#point(-1));
    canvas.addEventListener("click", (event) => this.#choose(this.#slotUnder(event)));
    canvas.addEventListener("keydown", (event) => this.#key(event));
  }

  get matchCount(): number | null {
    this.#searchAgain();
    return this.#matches?.size ?? null;
  }

  /** The first match in slot order: what Enter in the search box opens. */
  get firstMatch(): number {
    this.#searchAgain();
    const slots = this.#matches ? [...this.#matches] : [];
    return slots.length === 0 ? -1 : Math.min(...slots);
  }

  setTheme(theme: MapTheme): void {
    this.#painter.setTheme(theme);
    this.#events.dirty();
  }

  paint(picture: MapPicture | null): void {
    this.#layOutAgain();
    this.#searchAgain();
    const { selected } = this;
    this.#painter.paint(picture, { matches: this.#matches, hover: this.#hover, selected });
  }

  /** CSS pixels of a slot's cell, for the hover card. */
  #place(slot: number): Pointed | null {
    const cell = slot < 0 ? null : cellOf(this.#layout, slot);
    if (cell === null) return null;
    const ratio = this.#ratio();
    return { slot, x: cell.x / ratio, y: (cell.y + this.#layout.cellHeight) / ratio };
  }

  #layOutAgain(): void {
    const ratio = this.#ratio();
    const width = Math.round(this.#canvas.clientWidth * ratio);
    const height = Math.round(this.#canvas.clientHeight * ratio);
    const key = `${width} ${height} ${ratio} ${this.#hosts.version} ${this.group}`;
    if (key === this.#laidOutFor) return;
    this.#laidOutFor = key;
    this.#layout = layOut(groupHosts(this.#hosts.bySlot, this.group), {
      width,
      height,
      titleHeight: this.group === "" ? 0 : Math.round(TITLE_PX * ratio),
      padding: Math.round((this.group === "" ? 0 : PADDING_PX) * ratio),
      cellMax: Math.round(CELL_PX_MAX * ratio),
    });
    this.#painter.setLayout(this.#layout, width, height, ratio);
    if (this.#hover >= 0 && cellOf(this.#layout, this.#hover) === null) this.#point(-1);
  }

  #searchAgain(): void {
    const key = `${this.#hosts.version} ${this.search}`;
    if (key === this.#searchedFor) return;
    this.#searchedFor = key;
    const match = parseSearch(this.search);
    this.#matches = match === null ? null : new Set<number>();
    if (match === null) return;
    for (const host of this.#hosts.bySlot) if (host && match(host)) this.#matches?.add(host.slot);
  }

  #ratio(): number {
    return Math.max(1, window.devicePixelRatio);
  }

  #slotUnder(event: MouseEvent): number {
    const ratio = this.#ratio();
    return slotAt(this.#layout, event.offsetX * ratio, event.offsetY * ratio);
  }

  #pointer(event: PointerEvent): void {
    if (event.pointerType !== "touch") this.#point(this.#slotUnder(event));
  }

  #point(slot: number): void {
    if (slot === this.#hover) return;
    this.#hover = slot;
    this.#canvas.style.cursor = slot >= 0 ? "pointer" : "default";
    this.#events.pointed(this.#place(slot));
    this.#events.dirty();
  }

  #choose(slot: number): void {
    if (slot >= 0) this.#events.chosen(slot);
  }

  #key(event: KeyboardEvent): void {
    const move = ARROWS[event.key];
    if (move !== undefined) {
      event.preventDefault();
      this.#point(neighbour(this.#layout, this.#hover, move[0], move[1]));
    } else if (event.key === "Enter") {
      this.#choose(this.#hover);
    }
  }
}

const ARROWS: Readonly<Record<string, readonly [number, number]>> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};
