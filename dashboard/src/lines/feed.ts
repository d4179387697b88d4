// What the chart is fed with: frames as they come, and what the node tells of the time before.

import type { Backfill } from "../wire/backfill";
import type { LinesPicture } from "../wire/picture";
import { History } from "./history";

/** A point that is late by this many intervals is one that others are missing before. */
const REACH_INTERVALS = 3;
/** Shorter gaps are finer than what the node remembers. */
const GAP_MS_MIN = 10_000;
/** Two steps of the node's history: one may be missed. */
const STEPS_REACH_MS = 2 * 10_000;
/** A node that keeps no history does not answer: it is not asked for each gap anew. */
const PATIENCE_MS = 30_000;

export class LinesFeed {
  readonly history: History;
  readonly #exprs: readonly string[];
  readonly #ask: () => void;
  #askedMs = Number.NEGATIVE_INFINITY;

  /** `exprs` in the order of the chart's lines; `ask` subscribes anew, past included. */
  constructor(history: History, exprs: readonly string[], ask: () => void) {
    this.history = history;
    this.#exprs = exprs;
    this.#ask = ask;
    history.clear();
  }

  /** The subscription was made, and with it the wish. */
  asked(nowMs: number): void {
    this.#askedMs = nowMs;
  }

  /** A frame came. After a pause, a hidden tab or a stall the node fills in what was missed. */
  came(picture: LinesPicture, intervalMs: number, nowMs: number): void {
    const newest = this.history.newestMs;
    const missed = newest !== null && picture.timeMs - newest > GAP_MS_MIN;
    const { data, length } = picture.values;
    const reachMs = REACH_INTERVALS * intervalMs;
    this.history.push(picture.timeMs, data.subarray(0, length), reachMs);
    if (!missed || nowMs - this.#askedMs < PATIENCE_MS) return;
    this.asked(nowMs);
    this.#ask();
  }

  /** A step of the node's history: while that runs, the chart shows nothing else. */
  rewound(picture: LinesPicture): void {
    const newest = this.history.newestMs;
    if (newest !== null && picture.timeMs < newest) this.history.clear();
    const { data, length } = picture.values;
    this.history.push(picture.timeMs, data.subarray(0, length), STEPS_REACH_MS);
  }

  told(backfill: Backfill): void {
    this.#askedMs = Number.NEGATIVE_INFINITY;
    const at = (expr: string): number => backfill.lines.findIndex((line) => line.expr === expr);
    this.history.fillIn(backfill, this.#exprs.map(at));
  }
}
