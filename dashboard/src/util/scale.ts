// Between the map's bytes and values.

import { VALUE_ABOVE, VALUE_BELOW, VALUE_MAX, VALUE_NONE } from "../wire/frame";
import { formatNumber } from "./format";

/** The value a byte stands for; null for the bytes that stand for none. */
export function valueOf(byte: number, lo: number, hi: number): number | null {
  if (byte > VALUE_MAX) return null;
  return lo + (byte * (hi - lo)) / VALUE_MAX;
}

/** A byte in words. No more digits than 253 steps can carry, so the hover card does not pretend. */
export function describeByte(byte: number, lo: number, hi: number, unit: string): string {
  if (byte === VALUE_NONE) return "no value";
  const suffix = unit === "" ? "" : ` ${unit}`;
  if (byte === VALUE_BELOW) return `below ${formatNumber(lo, unit)}${suffix}`;
  if (byte === VALUE_ABOVE) return `above ${formatNumber(hi, unit)}${suffix}`;
  const step = (hi - lo) / VALUE_MAX;
  const value = valueOf(byte, lo, hi) ?? lo;
  if (hi >= 1000) return `≈ ${formatNumber(value, unit)}${suffix}`;
  const decimals = Math.min(6, Math.max(0, Math.ceil(-Math.log10(step))));
  return `≈ ${value.toFixed(decimals)}${suffix}`;
}

/** A byte in the three or four characters that fit a cell. */
export function shortByte(byte: number, lo: number, hi: number): string {
  const value = valueOf(byte === VALUE_BELOW ? 0 : Math.min(byte, VALUE_MAX), lo, hi) ?? lo;
  return hi - lo >= 20 && Math.abs(value) < 1000 ? value.toFixed(0) : formatNumber(value);
}
