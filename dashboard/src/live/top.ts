// The order of the top table: it follows the fleet, but not so fast that no row can be read.

export interface TopRow {
  readonly slot: number;
  /** null: the row is held in its place, but its host has left the top. */
  readonly value: number | null;
}

export const TOP_SHOWN = 24;
const SORT_INTERVAL_MS = 1_000;

export class TopOrder {
  #rows: TopRow[] = [];
  #sortedMs = Number.NEGATIVE_INFINITY;
  /** While the pointer is over the table rows stay where they are. */
  held = false;

  clear(): void {
    this.#rows = [];
    this.#sortedMs = Number.NEGATIVE_INFINITY;
  }

  /** `slots` and `values` in the server's order, greatest first. */
  update(slots: ArrayLike<number>, values: ArrayLike<number>, nowMs: number): readonly TopRow[] {
    const due = nowMs - this.#sortedMs >= SORT_INTERVAL_MS && !this.held;
    if (due || this.#rows.length === 0) {
      this.#sortedMs = nowMs;
      const shown = Array.from(slots).slice(0, TOP_SHOWN);
      this.#rows = shown.map((slot, i) => ({ slot, value: values[i] ?? null }));
      return this.#rows;
    }
    const now = new Map<number, number>();
    for (let i = 0; i < slots.length; i++) now.set(slots[i] ?? 0, values[i] ?? Number.NaN);
    this.#rows = this.#rows.map(({ slot }) => ({ slot, value: now.get(slot) ?? null }));
    return this.#rows;
  }
}
