// What a view shows, held up to date by its frames under the rules of docs/PROTOCOL.md 2.5.

import { Column } from "./column";
import type { Frame, Section } from "./frame";
import { Dtype, Encoding, FrameType, WireError, align8, jsonOf, statsOf, valuesAt } from "./frame";

export type Kind = "map" | "lines" | "top" | "host" | "stats";

/**
 * `resync`: the frame was dropped and a KEY must be asked for. `ignored`: it says nothing to us, a
 * DELTA while the KEY is on its way, or a type of a newer server.
 */
export type Verdict = "applied" | "resync" | "ignored";

/**
 * Invariant: `whole` is true exactly while `last` names the frame that the picture shows and no
 * frame was lost since, or while it shows the past, with 0 as `last`.
 */
export abstract class Picture {
  last = 0;
  whole = false;
  timeMs = 0;
  flags = 0;
  #asked = false;

  /** Applies a frame, or says why the picture can no longer follow. */
  take(frame: Frame): Verdict {
    const isKey = frame.type === FrameType.Key;
    if (!isKey && frame.type !== FrameType.Delta) return "ignored";
    const next = frame.seq === this.last + 1 && frame.baseSeq === this.last;
    if (!isKey && !(this.whole && next)) return this.#lost();
    try {
      if (isKey) this.clear();
      for (const section of frame.sections) this.section(frame, section);
    } catch (error) {
      if (error instanceof WireError) return this.#lost();
      throw error;
    }
    this.last = frame.seq;
    this.whole = true;
    this.#asked = false;
    this.timeMs = frame.timeMs;
    this.flags = frame.flags;
    return "applied";
  }

  /**
   * Shows a REPLAY frame, which has no place in the sequence: what follows it in the present is a
   * KEY. False: the frame is none, or not of this kind, and the picture is good for nothing.
   */
  rewind(frame: Frame): boolean {
    if (frame.type !== FrameType.Replay) return false;
    this.restart();
    try {
      this.clear();
      for (const section of frame.sections) this.section(frame, section);
    } catch (error) {
      if (error instanceof WireError) return false;
      throw error;
    }
    this.whole = true;
    this.last = 0;
    this.timeMs = frame.timeMs;
    this.flags = frame.flags;
    return true;
  }

  /** A new feed: its first frame is a KEY that nobody needs to ask for. */
  restart(): void {
    this.whole = false;
    this.#asked = true;
  }

  /** Before a KEY: what it does not say is not there. */
  protected abstract clear(): void;

  protected abstract section(frame: Frame, section: Section): void;

  #lost(): Verdict {
    this.whole = false;
    if (this.#asked) return "ignored";
    this.#asked = true;
    return "resync";
  }
}

export class MapPicture extends Picture {
  readonly kind = "map";
  readonly values = new Column<Uint8Array>(Dtype.U8);
  readonly states = new Column<Uint8Array>(Dtype.State);
  lo = 0;
  hi = 100;

  protected override clear(): void {
    this.values.clear();
    this.states.clear();
  }

  protected override section(frame: Frame, section: Section): void {
    if (section.column === 0) this.values.apply(frame, section);
    else if (section.column === 1) this.states.apply(frame, section);
    else if (section.encoding === Encoding.Stats && section.column === 2) {
      const [lo, hi] = statsOf(frame, section);
      if (lo === undefined || hi === undefined) throw new WireError("a scale needs lo and hi");
      this.lo = lo;
      this.hi = hi;
    }
  }
}

export interface LineName {
  readonly expr: string;
  readonly group: string | null;
}

export class LinesPicture extends Picture {
  readonly kind = "lines";
  lines: readonly LineName[] = [];
  readonly values = new Column<Float32Array>(Dtype.F32);

  protected override clear(): void {
    this.lines = [];
    this.values.clear();
  }

  protected override section(frame: Frame, section: Section): void {
    if (section.encoding === Encoding.Json) {
      const { lines } = jsonOf(frame, section) as { lines?: LineName[] };
      if (!Array.isArray(lines)) throw new WireError("lines without names");
      this.lines = lines;
    } else if (section.encoding === Encoding.Append) {
      if (section.aux !== 1) throw new WireError(`${section.aux} points of a line`);
      this.values.apply(frame, section);
    }
  }
}

export class TopPicture extends Picture {
  readonly kind = "top";
  slots: Uint32Array = new Uint32Array(0);
  values: Float64Array = new Float64Array(0);

  protected override clear(): void {
    this.slots = new Uint32Array(0);
    this.values = new Float64Array(0);
  }

  protected override section(frame: Frame, section: Section): void {
    if (section.encoding !== Encoding.Top) return;
    const { offset, n } = section;
    this.slots = valuesAt(frame.buffer, Dtype.U32, offset, n) as Uint32Array;
    const from = offset + align8(n * 4);
    this.values = valuesAt(frame.buffer, Dtype.F64, from, n) as Float64Array;
  }
}

export interface HostInfo {
  readonly host: string;
  readonly slot: number | null;
  readonly tags: Readonly<Record<string, string>>;
  /** The peer that heard it last; none: this node itself. */
  readonly node?: string;
  /** Why nobody knows its state. */
  readonly cause?: string;
  readonly metrics: readonly { readonly name: string; readonly unit: string }[];
}

export class HostPicture extends Picture {
  readonly kind = "host";
  info: HostInfo | null = null;
  readonly values = new Column<Float64Array>(Dtype.F64);
  state = 0;
  ageMs = 0;
  intervalMs = 0;

  protected override clear(): void {
    this.info = null;
    this.values.clear();
  }

  protected override section(frame: Frame, section: Section): void {
    if (section.column === 0 && section.encoding === Encoding.Json) {
      const info = jsonOf(frame, section) as HostInfo;
      if (!Array.isArray(info.metrics)) throw new WireError("a host without metrics");
      this.info = info;
    } else if (section.column === 1) {
      this.values.apply(frame, section);
    } else if (section.column === 2 && section.encoding === Encoding.Stats) {
      const stats = statsOf(frame, section);
      this.state = stats[0] ?? 0;
      this.ageMs = stats[1] ?? 0;
      this.intervalMs = stats[2] ?? 0;
    }
  }
}

export interface MetricStats {
  readonly hosts: number;
  readonly min: number;
  readonly avg: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  readonly max: number;
  readonly unit: string;
}

/** The default view's object (docs/PROTOCOL.md 2.4). */
export interface Stats {
  readonly seq: number;
  readonly time: number;
  readonly tick_ms: number;
  readonly flags: readonly string[];
  readonly hosts: { readonly ok: number; readonly stale: number; readonly down: number };
  readonly metrics: Readonly<Record<string, MetricStats>>;
}

export class StatsPicture extends Picture {
  readonly kind = "stats";
  stats: Stats | null = null;

  protected override clear(): void {
    this.stats = null;
  }

  protected override section(frame: Frame, section: Section): void {
    if (section.encoding !== Encoding.Json) return;
    const stats = jsonOf(frame, section) as Partial<Stats>;
    if (!stats.hosts || !stats.metrics) throw new WireError("stats without hosts or metrics");
    this.stats = stats as Stats;
  }
}

export interface PictureOf {
  map: MapPicture;
  lines: LinesPicture;
  top: TopPicture;
  host: HostPicture;
  stats: StatsPicture;
}

export function newPicture<K extends Kind>(kind: K): PictureOf[K] {
  const make: { [P in Kind]: () => PictureOf[P] } = {
    map: () => new MapPicture(),
    lines: () => new LinesPicture(),
    top: () => new TopPicture(),
    host: () => new HostPicture(),
    stats: () => new StatsPicture(),
  };
  return make[kind]();
}
