// The last minutes of a few lines, in fixed-size typed arrays. Memory does not grow with time.

import type { Backfill } from "../wire/backfill";

/**
 * A ring of points, oldest first. Invariant: `length <= capacity`, and the `length` newest points
 * end at `#next - 1`. NaN is a gap: it is drawn as one, never bridged.
 *
 * A point reaches back so far: over more than that lies time of which nobody told, and the line
 * ends. Live points reach a few frames, those of the node's history two of its steps, since the
 * step in which the line broke off is told by what was live in it.
 */
export class History {
  readonly capacity: number;
  readonly width: number;
  length = 0;
  #next = 0;
  readonly #times: Float64Array;
  readonly #values: Float32Array;
  readonly #reaches: Float32Array;
  readonly #isPast: Uint8Array;

  constructor(capacity: number, width: number) {
    this.capacity = capacity;
    this.width = width;
    this.#times = new Float64Array(capacity);
    this.#values = new Float32Array(capacity * width);
    this.#reaches = new Float32Array(capacity);
    this.#isPast = new Uint8Array(capacity);
  }

  clear(): void {
    this.length = 0;
    this.#next = 0;
  }

  get newestMs(): number | null {
    return this.length === 0 ? null : (this.#times[this.#back(1)] ?? null);
  }

  /** A live point; a time that is not newer than the newest is dropped: time only goes forward. */
  push(timeMs: number, values: ArrayLike<number>, reachMs: number): void {
    const newest = this.newestMs;
    if (newest === null || timeMs > newest) this.#append(timeMs, values, reachMs, false);
  }

  /**
   * What the node knows of the time before, its line `order[i]` as our line i. It fills what was
   * not seen, and takes the place of what it told before; what was live is finer, and stays.
   */
  fillIn(backfill: Backfill, order: readonly number[]): void {
    const { fromMs, points, stepMs } = backfill;
    const live: Row[] = [];
    const steps = new Set<number>();
    for (let i = 0; i < this.length; i++) {
      const row = this.#row(this.#back(this.length - i));
      const step = Math.ceil((row.timeMs - fromMs) / stepMs);
      if (row.isPast && step >= 0 && step < points) continue;
      live.push(row);
      if (!row.isPast) steps.add(step);
    }
    const past: Row[] = [];
    for (let step = 0; step < points; step++) {
      if (steps.has(step)) continue;
      const values = order.map((line) => backfill.values[line * points + step] ?? Number.NaN);
      past.push({ timeMs: fromMs + step * stepMs, values, reachMs: 2 * stepMs, isPast: true });
    }
    const rows = [...past, ...live].sort((a, b) => a.timeMs - b.timeMs);
    // Before the first value there was nothing to miss.
    const begin = rows.findIndex(({ values }) => !values.every(Number.isNaN));
    this.clear();
    if (begin === -1) return;
    for (const { timeMs, values, reachMs, isPast } of rows.slice(begin)) {
      this.#append(timeMs, values, reachMs, isPast);
    }
  }

  /**
   * Times in seconds and one column a line, as uPlot wants them, into arrays that are reused. A
   * gap that no point stands for gets one without values.
   */
  fill(out: (number | null)[][]): void {
    for (let line = 0; line <= this.width; line++) (out[line] ??= []).length = 0;
    for (let i = 0; i < this.length; i++) {
      const at = this.#back(this.length - i);
      const timeMs = this.#times[at] ?? 0;
      if (i > 0 && this.#isOutOfReach(this.#back(this.length - i + 1), at)) {
        out[0]?.push(((this.#times[this.#back(this.length - i + 1)] ?? 0) + 1) / 1000);
        for (let line = 0; line < this.width; line++) out[line + 1]?.push(null);
      }
      out[0]?.push(timeMs / 1000);
      for (let line = 0; line < this.width; line++) out[line + 1]?.push(this.#value(at, line));
    }
  }

  #append(timeMs: number, values: ArrayLike<number>, reachMs: number, isPast: boolean): void {
    const at = this.#next;
    this.#times[at] = timeMs;
    for (let i = 0; i < this.width; i++) {
      this.#values[at * this.width + i] = values[i] ?? Number.NaN;
    }
    this.#reaches[at] = reachMs;
    this.#isPast[at] = isPast ? 1 : 0;
    this.#next = (at + 1) % this.capacity;
    this.length = Math.min(this.capacity, this.length + 1);
  }

  #row(at: number): Row {
    return {
      timeMs: this.#times[at] ?? 0,
      values: Array.from(this.#values.subarray(at * this.width, (at + 1) * this.width)),
      reachMs: this.#reaches[at] ?? 0,
      isPast: this.#isPast[at] === 1,
    };
  }

  #isOutOfReach(before: number, at: number): boolean {
    const distance = (this.#times[at] ?? 0) - (this.#times[before] ?? 0);
    return distance > Math.max(this.#reaches[before] ?? 0, this.#reaches[at] ?? 0);
  }

  #value(at: number, line: number): number | null {
    const value = this.#values[at * this.width + line] ?? Number.NaN;
    return Number.isNaN(value) ? null : value;
  }

  #back(n: number): number {
    return (this.#next - n + this.capacity) % this.capacity;
  }
}

interface Row {
  readonly timeMs: number;
  readonly values: readonly number[];
  readonly reachMs: number;
  readonly isPast: boolean;
}

/** Points between two gaps: no line goes through them, so they are drawn as dots. */
export function alone(values: ArrayLike<number | null | undefined> | undefined): number[] | null {
  const found: number[] = [];
  const has = (i: number): boolean => (values?.[i] ?? null) !== null;
  for (let i = 0; i < (values?.length ?? 0); i++) {
    if (has(i) && !has(i - 1) && !has(i + 1)) found.push(i);
  }
  return found.length > 0 ? found : null;
}
