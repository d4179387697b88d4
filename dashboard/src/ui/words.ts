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
