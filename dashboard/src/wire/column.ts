// One column of a picture, kept across frames: FULL replaces it, BITMAP and LIST change some of it.

import type { Frame, Section, Values } from "./frame";
import { Dtype, Encoding, WireError, align8, noneOf, valuesAt } from "./frame";

/** The server's own bound on hosts; a longer column is a broken frame, not a reason to allocate. */
const ELEMENTS_MAX = 1 << 20;

type Make = (capacity: number) => Values;
const MAKE: Record<number, Make> = {
  [Dtype.U8]: (n) => new Uint8Array(n),
  [Dtype.State]: (n) => new Uint8Array(n),
  [Dtype.U16]: (n) => new Uint16Array(n),
  [Dtype.U32]: (n) => new Uint32Array(n),
  [Dtype.F32]: (n) => new Float32Array(n),
  [Dtype.F64]: (n) => new Float64Array(n),
};

/**
 * Invariant: `length <= data.length`; elements past `length` mean nothing. `data` is replaced only
 * when it must grow, so a steady fleet allocates nothing a frame.
 */
export class Column<T extends Values = Values> {
  data: T;
  length = 0;
  readonly #dtype: number;

  constructor(dtype: number) {
    this.#dtype = dtype;
    this.data = this.#make(0);
  }

  clear(): void {
    this.length = 0;
  }

  /** The value at `index`, or this column's "none" past its end. */
  at(index: number): number {
    return index < this.length ? (this.data[index] ?? 0) : noneOf(this.#dtype);
  }

  apply(frame: Frame, section: Section): void {
    if (section.dtype !== this.#dtype) throw new WireError(`column of dtype ${section.dtype}`);
    switch (section.encoding) {
      case Encoding.Full:
      case Encoding.Append:
        return this.#full(frame, section);
      case Encoding.Bitmap:
        return this.#bitmap(frame, section);
      case Encoding.List16:
        return this.#list(frame, section, Dtype.U16, 2);
      case Encoding.List32:
        return this.#list(frame, section, Dtype.U32, 4);
      default:
        throw new WireError(`encoding ${section.encoding} in a column`);
    }
  }

  #full(frame: Frame, section: Section): void {
    this.#resize(section.n);
    this.data.set(valuesAt(frame.buffer, this.#dtype, section.offset, section.n));
  }

  #bitmap(frame: Frame, section: Section): void {
    this.#resize(section.aux);
    const bytes = Math.ceil(section.aux / 8);
    const bits = valuesAt(frame.buffer, Dtype.U8, section.offset, bytes);
    const from = section.offset + align8(bytes);
    const values = valuesAt(frame.buffer, this.#dtype, from, section.n);
    let taken = 0;
    for (let i = 0; i < bytes; i++) {
      let rest = bits[i] ?? 0;
      while (rest !== 0) {
        const bit = 31 - Math.clz32(rest & -rest);
        rest &= rest - 1;
        const index = i * 8 + bit;
        if (index >= this.length || taken >= section.n) throw new WireError("bitmap and values");
        this.data[index] = values[taken++] ?? 0;
      }
    }
    if (taken !== section.n) throw new WireError("fewer bits than values");
  }

  #list(frame: Frame, section: Section, dtype: number, width: number): void {
    this.#resize(section.aux);
    const indices = valuesAt(frame.buffer, dtype, section.offset, section.n);
    const from = section.offset + align8(section.n * width);
    const values = valuesAt(frame.buffer, this.#dtype, from, section.n);
    let least = 0;
    for (let i = 0; i < section.n; i++) {
      const index = indices[i] ?? 0;
      if (index < least || index >= this.length) throw new WireError("index out of its place");
      this.data[index] = values[i] ?? 0;
      least = index + 1;
    }
  }

  #resize(length: number): void {
    if (length > ELEMENTS_MAX) throw new WireError(`column of ${length} elements`);
    if (length > this.data.length) {
      const grown = this.#make(Math.max(length, this.data.length * 2));
      grown.set(this.data.subarray(0, this.length));
      this.data = grown;
    }
    if (length > this.length) this.data.fill(noneOf(this.#dtype), this.length, length);
    this.length = length;
  }

  #make(capacity: number): T {
    const make = MAKE[this.#dtype];
    if (make === undefined) throw new WireError(`unknown dtype ${this.#dtype}`);
    return make(capacity) as T;
  }
}
