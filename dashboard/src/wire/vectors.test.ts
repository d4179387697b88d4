// The vectors that the server's encoder is tested with (tests/vectors/frames): one wire, two sides.

import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { readBackfill } from "./backfill";
import type { Frame } from "./frame";
import { Flag, FrameType, WireError, parseFrame } from "./frame";
import type { Kind, Picture } from "./picture";
import {
  HostPicture,
  LinesPicture,
  MapPicture,
  StatsPicture,
  TopPicture,
  newPicture,
} from "./picture";

interface VectorFrame {
  readonly hex: string;
  readonly header: Readonly<Record<string, number>>;
  readonly outcome: "applied" | "needs_resync" | "ignored";
}
interface Vector {
  readonly name: string;
  readonly kind: Kind;
  readonly about: string;
  readonly view: number;
  readonly frames: readonly VectorFrame[];
  readonly expect: unknown;
}

const VERDICTS = { applied: "applied", needs_resync: "resync", ignored: "ignored" } as const;

function load<T>(name: string): T {
  const url = new URL(`../../../tests/vectors/frames/${name}`, import.meta.url);
  return JSON.parse(readFileSync(url, "utf8")) as T;
}

function bytes(hex: string): ArrayBuffer {
  const pairs = hex.match(/../g) ?? [];
  return Uint8Array.from(pairs, (pair) => parseInt(pair, 16)).buffer;
}

function headerOf(frame: Frame): Record<string, number> {
  return {
    base_seq: frame.baseSeq,
    flags: frame.flags,
    host_epoch: frame.hostEpoch,
    seq: frame.seq,
    time_ms: frame.timeMs,
    type: frame.type,
    view: frame.view,
  };
}

/** NaN is `null` in the vectors' JSON. */
function numbers(values: Iterable<number>): (number | null)[] {
  return Array.from(values, (value) => (Number.isNaN(value) ? null : value));
}

function shown(picture: Picture): unknown {
  const common = { seq: picture.last, stale: !picture.whole };
  if (picture instanceof MapPicture) {
    const values = [...picture.values.data.subarray(0, picture.values.length)];
    const states = [...picture.states.data.subarray(0, picture.states.length)];
    return { ...common, lo: picture.lo, hi: picture.hi, values, states };
  }
  if (picture instanceof LinesPicture) {
    const points = numbers(picture.values.data.subarray(0, picture.values.length));
    return { ...common, head: { lines: picture.lines }, points };
  }
  if (picture instanceof TopPicture) {
    return { ...common, rows: Array.from(picture.slots, (slot, i) => [slot, picture.values[i]]) };
  }
  if (picture instanceof HostPicture) {
    const { ageMs, info, intervalMs, state } = picture;
    const values = numbers(picture.values.data.subarray(0, picture.values.length));
    return { ...common, head: info, values, state, age_ms: ageMs, interval_ms: intervalMs };
  }
  if (picture instanceof StatsPicture) return { ...common, stats: picture.stats };
  throw new Error("a kind without a vector");
}

describe("frames", () => {
  for (const vector of load<Vector[]>("frames.json")) {
    it(`${vector.name}: ${vector.about}`, () => {
      const picture = newPicture(vector.kind) as Picture;
      for (const { header, hex, outcome } of vector.frames) {
        const frame = parseFrame(bytes(hex));
        expect(headerOf(frame)).toEqual(header);
        // Frames of other views do not reach a picture: the session sorts by number.
        if (frame.view !== vector.view) expect(outcome).toBe("ignored");
        else expect(picture.take(frame)).toBe(VERDICTS[outcome]);
      }
      expect(shown(picture)).toEqual(vector.expect);
    });
  }
});

interface Past {
  readonly name: string;
  readonly about: string;
  readonly hex: string;
  readonly expect: unknown;
}

describe("the past of lines", () => {
  for (const vector of load<Past[]>("backfill.json")) {
    it(`${vector.name}: ${vector.about}`, () => {
      const frame = parseFrame(bytes(vector.hex));
      if (vector.expect === null) {
        expect(() => readBackfill(frame)).toThrow(WireError);
        return;
      }
      const { fromMs, lines, points, stepMs, values } = readBackfill(frame);
      const told = lines.map(({ expr, group }, i) => {
        return { expr, group, values: numbers(values.subarray(i * points, (i + 1) * points)) };
      });
      const times = { time_ms: frame.timeMs, from: fromMs, step_ms: stepMs };
      expect({ view: frame.view, ...times, lines: told }).toEqual(vector.expect);
      expect(newPicture("lines").take(frame)).toBe("ignored");
    });
  }
});

interface Rewound {
  readonly name: string;
  readonly kind: Kind;
  readonly about: string;
  readonly hex: string;
  readonly expect: unknown;
}

describe("the past of maps, rankings and lines", () => {
  for (const vector of load<Rewound[]>("replay.json")) {
    it(`${vector.name}: ${vector.about}`, () => {
      const frame = parseFrame(bytes(vector.hex));
      const picture = newPicture(vector.kind) as Picture;
      if (frame.type === FrameType.Replay) expect(picture.take(frame)).toBe("ignored");
      const isShown = picture.rewind(frame);
      expect([isShown, picture.whole]).toEqual([vector.expect !== null, vector.expect !== null]);
      if (!isShown) return;
      expect(picture.flags).toBe(Flag.Replay);
      const head = { time_ms: picture.timeMs, epoch: frame.hostEpoch };
      const { seq: _, stale: _stale, ...all } = shown(picture) as Record<string, unknown>;
      const { lo, hi, ...body } = all;
      const scale = picture instanceof MapPicture ? [lo, hi] : null;
      expect({ head, body, scale }).toEqual(vector.expect);
    });
  }
});

describe("malformed frames", () => {
  for (const { hex, name } of load<{ hex: string; name: string }[]>("malformed.json")) {
    it(name, () => {
      const take = (): string => {
        const frame = parseFrame(bytes(hex));
        const picture = new MapPicture();
        // As if its base had just been applied, so that only its content can be at fault.
        picture.whole = true;
        picture.last = frame.baseSeq;
        return picture.take(frame);
      };
      let verdict = "refused";
      try {
        verdict = take();
      } catch (error) {
        expect(error).toBeInstanceOf(WireError);
      }
      expect(verdict).not.toBe("applied");
    });
  }
});
