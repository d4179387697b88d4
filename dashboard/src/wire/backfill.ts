// BACKFILL: the past of a `lines` view (docs/PROTOCOL.md 2.6). It is no frame of the view's
// sequence and touches no picture.

import type { Frame } from "./frame";
import { Dtype, Encoding, FrameType, WireError, jsonOf, valuesAt } from "./frame";
import type { LineName } from "./picture";

export interface Backfill {
  /** Time of the first points. A point tells of the `stepMs` that end at its time. */
  readonly fromMs: number;
  readonly stepMs: number;
  readonly lines: readonly LineName[];
  /** Points of each line. */
  readonly points: number;
  /** Line after line; NaN is a gap. */
  readonly values: Float32Array;
}

export function readBackfill(frame: Frame): Backfill {
  if (frame.type !== FrameType.Backfill) throw new WireError(`a frame of type ${frame.type}`);
  const section = (encoding: number, column: number) => {
    const found = frame.sections.find((s) => s.encoding === encoding && s.column === column);
    if (found === undefined) throw new WireError("a section of the past is missing");
    return found;
  };
  const names = jsonOf(frame, section(Encoding.Json, 0)) as Partial<Names> | null;
  const { aux, dtype, n, offset } = section(Encoding.Append, 1);
  const { lines, from, step_ms: stepMs } = names ?? {};
  if (!Array.isArray(lines) || !Number.isInteger(from) || !Number.isInteger(stepMs)) {
    throw new WireError("a past without names or times");
  }
  if (lines.length !== n || aux === 0 || Number(stepMs) <= 0 || dtype !== Dtype.F32) {
    throw new WireError("names and points contradict");
  }
  const values = valuesAt(frame.buffer, Dtype.F32, offset, n * aux) as Float32Array;
  return { fromMs: Number(from), stepMs: Number(stepMs), lines, points: aux, values };
}

interface Names {
  readonly lines: readonly LineName[];
  readonly from: number;
  readonly step_ms: number;
}
