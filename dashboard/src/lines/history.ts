// The last minutes of a few lines, in fixed-size typed arrays. Memory does not grow with time.

/**
 * A ring. Invariant: `length <= capacity`, and the `length` newest points end at `#next - 1`.
 * NaN is a gap: it is drawn as one, never bridged.
 */
export class History {
  readonly capacity: number;
  readonly width: number;
  length = 0;
  #next = 0;
  readonly #times: Float64Array;
  readonly #values: Float32Array;

  constructor(capacity: number, width: number) {
    this.capacity = capacity;
    this.width = width;
    this.#times = new Float64Array(capacity);
    this.#values = new Float32Array(capacity * width);
  }

  clear(): void {
    this.length = 0;
    this.#next = 0;
  }

  get newestMs(): number | null {
    return this.length === 0 ? null : (this.#times[this.#back(1)] ?? null);
  }

  /** A point; a time that is not newer than the newest is dropped: the axis only goes forward. */
  push(timeMs: number, values: ArrayLike<number>): void {
    const newest = this.newestMs;
    if (newest !== null && timeMs <= newest) return;
    this.#times[this.#next] = timeMs;
    for (let i = 0; i < this.width; i++) {
      this.#values[this.#next * this.width + i] = values[i] ?? Number.NaN;
    }
    this.#next = (this.#next + 1) % this.capacity;
    this.length = Math.min(this.capacity, this.length + 1);
  }

  /** Ends the lines; two gaps in a row are one. */
  gap(): void {
    const newest = this.newestMs;
    if (newest === null || this.#isGap(this.#back(1))) return;
    this.push(newest + 1, []);
  }

  /** Times in seconds and one column a line, as uPlot wants them, into arrays that are reused. */
  fill(out: (number | null)[][]): void {
    for (let line = 0; line <= this.width; line++) {
      const column = (out[line] ??= []);
      column.length = this.length;
      for (let i = 0; i < this.length; i++) {
        const at = this.#back(this.length - i);
        column[i] = line === 0 ? (this.#times[at] ?? 0) / 1000 : this.#value(at, line - 1);
      }
    }
  }

  #value(at: number, line: number): number | null {
    const value = this.#values[at * this.width + line] ?? Number.NaN;
    return Number.isNaN(value) ? null : value;
  }

  #isGap(at: number): boolean {
    for (let i = 0; i < this.width; i++) if (this.#value(at, i) !== null) return false;
    return true;
  }

  #back(n: number): number {
    return (this.#next - n + this.capacity) % this.capacity;
  }
}
