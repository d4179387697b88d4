// Names and tags by slot: fetched whole, then patched (docs/PROTOCOL.md 2.2).

import { Denied } from "./api";
import type { HostRow, HostsAt, HostsPatch } from "./messages";

const RETRY_MS_FIRST = 500;
const RETRY_MS_MAX = 10_000;
/** Patches kept while a fetch is under way; more than a minute's worth, then one more fetch. */
const PATCHES_MAX = 1_024;

export interface Host {
  readonly slot: number;
  readonly name: string;
  readonly tags: Readonly<Record<string, string>>;
}

export interface HostTable {
  readonly epoch: number;
  readonly hosts: readonly HostRow[];
}

export type FetchTable = (url: string) => Promise<HostTable>;

/**
 * Invariant: while no fetch is under way, the table is exactly the server's of `epoch`.
 * `version` goes up with every change, so that layouts know when to be made anew.
 */
export class Hosts {
  readonly bySlot: (Host | undefined)[] = [];
  version = 0;
  epoch = -1;
  count = 0;
  problem: string | null = null;
  #url = "/api/hosts";
  #fetching = false;
  /** Counts `clear`s: an answer that was asked for before one is nobody's any more. */
  #era = 0;
  #waiting: HostsPatch[] = [];
  #retryMs = RETRY_MS_FIRST;
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #fetchTable: FetchTable;
  readonly #changed: () => void;

  constructor(fetchTable: FetchTable, changed: () => void) {
    this.#fetchTable = fetchTable;
    this.#changed = changed;
  }

  /** The server restarted: slots mean other hosts now. */
  clear(): void {
    this.#era += 1;
    clearTimeout(this.#timer);
    this.#fetching = false;
    this.#waiting = [];
    this.#replace({ epoch: -1, hosts: [] });
  }

  announced(message: HostsAt): void {
    this.#url = message.url;
    if (message.epoch !== this.epoch || this.#fetching) this.#fetch();
  }

  patch(patch: HostsPatch): void {
    if (this.#fetching) {
      if (this.#waiting.length < PATCHES_MAX) this.#waiting.push(patch);
      return;
    }
    if (patch.to <= this.epoch) return;
    if (patch.from !== this.epoch) {
      this.#url = `/api/hosts?epoch=${patch.to}`;
      this.#waiting.push(patch);
      return this.#fetch();
    }
    this.#apply(patch);
    this.#moved();
  }

  #fetch(): void {
    clearTimeout(this.#timer);
    const era = ++this.#era;
    this.#fetching = true;
    this.#fetchTable(this.#url).then(
      (table) => {
        if (era === this.#era) this.#fetched(table);
      },
      (error: unknown) => {
        if (era === this.#era) this.#failed(error);
      },
    );
  }

  #fetched(table: HostTable): void {
    this.#fetching = false;
    this.#retryMs = RETRY_MS_FIRST;
    this.problem = null;
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#replace(table);
    for (const patch of waiting) this.patch(patch);
  }

  #failed(error: unknown): void {
    this.problem = error instanceof Error ? error.message : String(error);
    // Refused is refused: the next `announced` asks again.
    if (!(error instanceof Denied)) {
      this.#timer = setTimeout(() => this.#fetch(), this.#retryMs);
      this.#retryMs = Math.min(RETRY_MS_MAX, this.#retryMs * 2);
    }
    this.#changed();
  }

  #replace(table: HostTable): void {
    this.bySlot.length = 0;
    this.count = 0;
    for (const row of table.hosts) this.#set(row);
    this.epoch = table.epoch;
    this.#moved();
  }

  #apply(patch: HostsPatch): void {
    for (const slot of patch.del ?? []) {
      if (this.bySlot[slot] !== undefined) this.count -= 1;
      this.bySlot[slot] = undefined;
    }
    for (const row of patch.set ?? []) this.#set(row);
    this.epoch = patch.to;
  }

  #set([slot, name, tags]: HostRow): void {
    if (this.bySlot[slot] === undefined) this.count += 1;
    this.bySlot[slot] = { slot, name, tags };
  }

  #moved(): void {
    this.version += 1;
    this.#changed();
  }
}
