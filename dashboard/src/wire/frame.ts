// Data frames of `tidewall.v1` (docs/PROTOCOL.md 2.3): header and sections, as views of the buffer.

export const HEADER_BYTES = 32;
export const SECTION_BYTES = 16;
const MAGIC = 0x5754;
const VERSION = 1;

export const FrameType = { Key: 1, Delta: 2, Backfill: 3, Replay: 4 } as const;
export const Encoding = {
  Full: 0,
  Bitmap: 1,
  List16: 2,
  List32: 3,
  Append: 4,
  Hist: 5,
  Top: 6,
  Json: 7,
  Stats: 8,
} as const;
export const Dtype = { U8: 0, U16: 1, F32: 2, F64: 3, U32: 4, State: 5 } as const;
export const Flag = { Degraded: 1, Partial: 2, Replay: 4, RateLowered: 8 } as const;
export const HostState = { None: 0, Ok: 1, Stale: 2, Down: 3, Muted: 4, Warn: 5, Crit: 6 } as const;

/** Map bytes with a meaning of their own; 0..VALUE_MAX run from `lo` to `hi`. */
export const VALUE_MAX = 252;
export const VALUE_BELOW = 253;
export const VALUE_ABOVE = 254;
export const VALUE_NONE = 255;

export type Values = Uint8Array | Uint16Array | Uint32Array | Float32Array | Float64Array;

/** One section's header; `offset` is where its payload begins in the frame's buffer. */
export interface Section {
  readonly encoding: number;
  readonly dtype: number;
  readonly column: number;
  readonly n: number;
  readonly length: number;
  readonly aux: number;
  readonly offset: number;
}

export interface Frame {
  readonly type: number;
  readonly view: number;
  readonly seq: number;
  readonly baseSeq: number;
  readonly timeMs: number;
  readonly hostEpoch: number;
  readonly flags: number;
  readonly sections: readonly Section[];
  readonly buffer: ArrayBuffer;
}

/** What the server sent does not follow the protocol. The picture is left alone and resynced. */
export class WireError extends Error {}

export function parseFrame(buffer: ArrayBuffer): Frame {
  if (buffer.byteLength < HEADER_BYTES) throw new WireError("frame shorter than its header");
  const data = new DataView(buffer);
  if (data.getUint16(0, true) !== MAGIC) throw new WireError("not a Tidewall frame");
  const version = data.getUint8(2);
  if (version !== VERSION) throw new WireError(`frame version ${version}`);
  return {
    type: data.getUint8(3),
    view: data.getUint32(4, true),
    seq: data.getUint32(8, true),
    baseSeq: data.getUint32(12, true),
    timeMs: data.getFloat64(16, true),
    hostEpoch: data.getUint32(24, true),
    flags: data.getUint16(28, true),
    sections: parseSections(data, data.getUint16(30, true)),
    buffer,
  };
}

function parseSections(data: DataView, count: number): Section[] {
  const sections: Section[] = [];
  let at = HEADER_BYTES;
  for (let i = 0; i < count; i++) {
    if (at + SECTION_BYTES > data.byteLength) throw new WireError("section header cut off");
    const length = data.getUint32(at + 8, true);
    const offset = at + SECTION_BYTES;
    const padded = align8(length);
    if (offset + padded > data.byteLength) throw new WireError("section payload cut off");
    const section = {
      encoding: data.getUint8(at),
      dtype: data.getUint8(at + 1),
      column: data.getUint16(at + 2, true),
      n: data.getUint32(at + 4, true),
      length,
      aux: data.getUint32(at + 12, true),
      offset,
    };
    at = offset + padded;
    const expected = payloadBytes(section);
    if (expected === null) continue;
    if (expected !== length) throw new WireError("section's length and count contradict");
    sections.push(section);
  }
  if (at !== data.byteLength) throw new WireError("bytes after the last section");
  return sections;
}

/** What the count says the payload is long; null for an encoding of a newer server: skipped. */
function payloadBytes(section: Section): number | null {
  const { aux, dtype, encoding, length, n } = section;
  switch (encoding) {
    case Encoding.Full:
    case Encoding.Stats:
      return n * widthOf(dtype);
    case Encoding.Append:
      return n * aux * widthOf(dtype);
    case Encoding.Bitmap:
      return align8(Math.ceil(aux / 8)) + n * widthOf(dtype);
    case Encoding.List16:
      return align8(n * 2) + n * widthOf(dtype);
    case Encoding.List32:
      return align8(n * 4) + n * widthOf(dtype);
    case Encoding.Top:
      return align8(n * 4) + n * 8;
    case Encoding.Json:
      return length;
    default:
      return null;
  }
}

function widthOf(dtype: number): number {
  const width = [1, 2, 4, 8, 4, 1][dtype];
  if (width === undefined) throw new WireError(`unknown dtype ${dtype}`);
  return width;
}

/** Sections and the values inside them start at multiples of 8, so that typed arrays fit. */
export function align8(bytes: number): number {
  return Math.ceil(bytes / 8) * 8;
}

/** `n` values at `offset`, without a copy. */
export function valuesAt(buffer: ArrayBuffer, dtype: number, offset: number, n: number): Values {
  try {
    switch (dtype) {
      case Dtype.U8:
      case Dtype.State:
        return new Uint8Array(buffer, offset, n);
      case Dtype.U16:
        return new Uint16Array(buffer, offset, n);
      case Dtype.U32:
        return new Uint32Array(buffer, offset, n);
      case Dtype.F32:
        return new Float32Array(buffer, offset, n);
      case Dtype.F64:
        return new Float64Array(buffer, offset, n);
    }
  } catch {
    throw new WireError("values cut off or not aligned");
  }
  throw new WireError(`unknown dtype ${dtype}`);
}

/** What a column is filled up with when it grows: the value that says "nothing here". */
export function noneOf(dtype: number): number {
  if (dtype === Dtype.U8) return VALUE_NONE;
  return dtype === Dtype.F32 || dtype === Dtype.F64 ? Number.NaN : 0;
}

const utf8 = new TextDecoder("utf-8", { fatal: true });

export function jsonOf(frame: Frame, section: Section): unknown {
  try {
    const text = utf8.decode(new Uint8Array(frame.buffer, section.offset, section.length));
    return JSON.parse(text) as unknown;
  } catch {
    throw new WireError("JSON section does not parse");
  }
}

export function statsOf(frame: Frame, section: Section): Float64Array {
  return valuesAt(frame.buffer, Dtype.F64, section.offset, section.n) as Float64Array;
}
