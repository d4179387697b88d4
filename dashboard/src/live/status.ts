// The connection's state in words. The one rule: never show old data as if it were live.

import type { Phase } from "./connection";

export type Tone = "live" | "late" | "lost" | "still";

export interface Status {
  readonly tone: Tone;
  readonly text: string;
  /** More words, for the title and for what went wrong. */
  readonly detail: string;
  /** The picture is not the present: grey it and say of when it is. */
  readonly grey: boolean;
  /** The label of the button that connects at once. */
  readonly retry: "now" | "try again" | null;
}

export interface Situation {
  readonly phase: Phase;
  readonly paused: boolean;
  readonly now: number;
  /** Age of the newest frame now, and as it was at its paint; null before the first. */
  readonly ageMs: number | null;
  readonly paintAgeMs: number | null;
  readonly intervalMs: number;
  readonly whole: boolean;
  /** The map and the ranking show the past. */
  readonly replay: boolean;
  /** What a plain HTTP request met after the WebSocket failed; null: not tried, or it went well. */
  readonly obstacle: string | null;
}

/** Under this, lateness is jitter, whatever the rate. */
const LATE_MS_MIN = 1_000;
/** Past this a picture is no longer "a little late": it is greyed. */
const OLD_MS = 5_000;

export function describe(s: Situation): Status {
  if (s.phase.name === "impossible") {
    return status("lost", "No WebSocket", `This browser cannot connect: ${s.phase.why}`, true);
  }
  if (s.phase.name === "refused") return refused(s.phase.why);
  if (s.paused) return paused(s);
  switch (s.phase.name) {
    case "idle":
    case "connecting":
      return status("lost", "Connecting", s.obstacle ?? "Waiting for the server", true);
    case "waiting":
      return waiting(s, s.phase);
    case "open":
      return open(s);
  }
}

function open(s: Situation): Status {
  if (s.ageMs === null || s.paintAgeMs === null) {
    return status("late", "Connected", "Waiting for the first frame", true);
  }
  if (s.replay) {
    const detail = "Map and ranking show the past; counts, lines and the host are live";
    return status("still", "Replay", detail, false);
  }
  if (s.ageMs > Math.max(LATE_MS_MIN, 3 * s.intervalMs)) {
    const grey = s.ageMs > OLD_MS;
    return status("late", `Delayed ${seconds(s.ageMs)}`, "Frames come late", grey);
  }
  if (!s.whole) return status("late", "Resyncing", "A frame was lost; a whole one is due", true);
  const detail = "Age of the newest frame when it was painted";
  return status("live", `Live · ${Math.round(s.paintAgeMs)} ms`, detail, false);
}

function paused(s: Situation): Status {
  const lost = s.phase.name === "waiting";
  const detail = lost ? "The connection was lost meanwhile; play reconnects" : "Space plays on";
  return status("still", lost ? "Paused · connection lost" : "Paused", detail, true);
}

function refused(why: string): Status {
  return { ...status("lost", "No access", why, true), retry: "try again" };
}

function waiting(s: Situation, phase: Phase & { name: "waiting" }): Status {
  const left = Math.max(0, Math.ceil((phase.until - s.now) / 1000));
  const why = s.obstacle ?? CLOSE_WORDS[phase.code] ?? "The connection was lost";
  return { ...status("lost", `Reconnecting in ${left} s`, why, true), retry: "now" };
}

function status(tone: Tone, text: string, detail: string, grey: boolean): Status {
  return { tone, text, detail, grey, retry: null };
}

function seconds(ms: number): string {
  return ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.floor(ms / 60_000)} min`;
}

/** Close codes as in docs/PROTOCOL.md 2.5; 0 is our own silence watch. */
const CLOSE_WORDS: Readonly<Record<number, string>> = {
  0: "The server fell silent",
  1008: "The server closed the connection: against its policy",
  1012: "The server is restarting",
  1013: "The server is overloaded",
  4000: "The server did not understand this page",
  4001: "The access token has expired",
  4003: "The server forbids this page to watch",
  4008: "This page was too slow to keep up",
  4029: "Too many viewers or views",
};
