// Words that more than one place of the page has, or that are worth a test.

import { formatAge } from "../util/format";

/** By the wire's state byte. */
export const STATE_WORDS: readonly string[] = [
  "unknown",
  "ok",
  "stale",
  "down",
  "muted",
  "warn",
  "crit",
];

interface Heard {
  readonly ageMs: number;
  readonly intervalMs: number;
  readonly node: string | null;
}

/** When a host was heard, how often it is, and by whom if not by this page's own node. */
export function heardWords({ ageMs, intervalMs, node }: Heard): string {
  const every = intervalMs > 0 ? `, every ${formatAge(intervalMs)}` : "";
  const by = node === null ? "" : `, by node ${node}`;
  return `last heard ${formatAge(ageMs)} ago${every}${by}`;
}
