// Numbers and times as people read them.

const SI = ["", "k", "M", "G", "T", "P"] as const;
const BINARY = ["", "Ki", "Mi", "Gi", "Ti", "Pi"] as const;
const BYTE_UNITS = new Set(["B", "bytes", "byte", "By"]);

/** Three significant digits, with a prefix from a thousand on: `53.2`, `1.24k`, `3.1Gi`. */
export function formatNumber(value: number | null | undefined, unit = ""): string {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const bytes = BYTE_UNITS.has(unit);
  const base = bytes ? 1024 : 1000;
  const prefixes = bytes ? BINARY : SI;
  let scaled = value;
  let power = 0;
  while (Math.abs(scaled) >= base && power < prefixes.length - 1) {
    scaled /= base;
    power += 1;
  }
  return `${digits(scaled)}${prefixes[power] ?? ""}`;
}

function digits(value: number): string {
  const size = Math.abs(value);
  if (size >= 100) return value.toFixed(0);
  if (size >= 10) return value.toFixed(1);
  if (size === 0 || size >= 0.01) return value.toFixed(2);
  return value.toExponential(1);
}

/** Ends of scales and ticks: whole numbers as they are. */
export function formatTick(value: number, unit: string): string {
  const whole = Number.isInteger(value) && Math.abs(value) < 1000;
  return whole ? String(value) : formatNumber(value, unit).replace(/\.0+(?=\D|$)/, "");
}

export function formatValue(value: number | null | undefined, unit: string): string {
  const number = formatNumber(value, unit);
  if (unit === "" || number === "–") return number;
  return `${number} ${unit}`;
}

/** `84 ms`, `2.3 s`, `4 min`, `3 h`. */
export function formatAge(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min`;
  return `${Math.floor(ms / 3_600_000)} h`;
}

export function formatClock(ms: number, utc: boolean): string {
  const date = new Date(ms);
  const parts = utc
    ? [date.getUTCHours(), date.getUTCMinutes(), date.getUTCSeconds()]
    : [date.getHours(), date.getMinutes(), date.getSeconds()];
  return parts.map((part) => String(part).padStart(2, "0")).join(":");
}

export function formatCount(count: number): string {
  return count.toLocaleString("en");
}
