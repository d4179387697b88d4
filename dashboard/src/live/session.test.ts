import { beforeEach, describe, expect, it } from "vitest";
import type { Backfill } from "../wire/backfill";
import { HEADER_BYTES, SECTION_BYTES } from "../wire/frame";
import type { Kind } from "../wire/picture";
import type { Connection } from "./connection";
import { Hosts } from "./hosts";
import type { ClientMessage, Welcome } from "./messages";
import type { Replaying } from "./session";
import { Session } from "./session";

const MAP = { kind: "map", metric: "cpu", hz: 10 } as const;
const STATS = { kind: "stats", hz: 1 } as const;
const T0 = 1_763_918_083_000;

function welcome(boot = "a"): Welcome {
  return { op: "welcome", boot, now: Date.now(), tick_ms: 100 };
}

/** A map frame of one host; a DELTA says nothing new, which is enough for the sequence. */
function frame(view: number, seq: number, base: number, timeMs = T0): ArrayBuffer {
  const isKey = base === 0;
  const buffer = new ArrayBuffer(HEADER_BYTES + (isKey ? SECTION_BYTES + 8 : 0));
  const data = new DataView(buffer);
  data.setUint16(0, 0x5754, true);
  data.setUint8(2, 1);
  data.setUint8(3, isKey ? 1 : 2);
  data.setUint32(4, view, true);
  data.setUint32(8, seq, true);
  data.setUint32(12, base, true);
  data.setFloat64(16, timeMs, true);
  data.setUint16(30, isKey ? 1 : 0, true);
  if (isKey) {
    data.setUint32(HEADER_BYTES + 4, 1, true);
    data.setUint32(HEADER_BYTES + 8, 1, true);
    data.setUint8(HEADER_BYTES + SECTION_BYTES, 42);
  }
  return buffer;
}

/** One host's map of that time. */
function past(view: number, timeMs: number, value: number): ArrayBuffer {
  const buffer = frame(view, 0, 0, timeMs);
  new DataView(buffer).setUint8(3, 4);
  new DataView(buffer).setUint8(HEADER_BYTES + SECTION_BYTES, value);
  return buffer;
}

/** One line of two points. */
function backfill(view: number): ArrayBuffer {
  const names = JSON.stringify({ lines: [{ expr: "x", group: null }], from: T0, step_ms: 10_000 });
  const padded = Math.ceil(names.length / 8) * 8;
  const buffer = new ArrayBuffer(HEADER_BYTES + 2 * SECTION_BYTES + padded + 8);
  const data = new DataView(buffer);
  new Uint8Array(buffer).set(new Uint8Array(frame(view, 0, 0)).subarray(0, HEADER_BYTES));
  data.setUint8(3, 3);
  data.setUint16(30, 2, true);
  const sections = [HEADER_BYTES, HEADER_BYTES + SECTION_BYTES + padded] as const;
  [
    [7, 0, 0, 1, names.length, 0],
    [4, 2, 1, 1, 8, 2],
  ].forEach(([encoding = 0, dtype = 0, column = 0, n = 0, length = 0, aux = 0], i) => {
    const at = sections[i] ?? 0;
    data.setUint8(at, encoding);
    data.setUint8(at + 1, dtype);
    data.setUint16(at + 2, column, true);
    data.setUint32(at + 4, n, true);
    data.setUint32(at + 8, length, true);
    data.setUint32(at + 12, aux, true);
  });
  new Uint8Array(buffer).set(new TextEncoder().encode(names), HEADER_BYTES + SECTION_BYTES);
  return buffer;
}

describe("session", () => {
  let sent: ClientMessage[];
  let shown: Kind[];
  let session: Session;
  let hosts: Hosts;
  let told: Backfill[];
  let replays: (Replaying | null)[];
  let refusals: string[];

  beforeEach(() => {
    sent = [];
    shown = [];
    hosts = new Hosts(
      () => new Promise(() => undefined),
      () => undefined,
    );
    told = [];
    replays = [];
    refusals = [];
    session = new Session(hosts, {
      picture: (kind) => shown.push(kind),
      backfill: (backfill) => told.push(backfill),
      replay: (replay) => replays.push(replay),
      refused: (why) => refusals.push(why),
    });
    const send = (message: ClientMessage): boolean => sent.push(message) > 0;
    session.connection = { send } as unknown as Connection;
  });

  function schema(id: number, view: number, hz = 10): void {
    session.text({ op: "schema", id, view, hz, kind: "map" });
  }

  function subscribed(): void {
    session.want(MAP);
    schema(1, 7);
    sent.length = 0;
  }

  it("asks for a view once, and anew when it changes", () => {
    session.want(MAP);
    session.want({ ...MAP });
    session.want({ ...MAP, metric: "memory" });
    expect(sent).toEqual([
      { op: "sub", id: 1, view: MAP },
      { op: "unsub", id: 1 },
      { op: "sub", id: 2, view: { ...MAP, metric: "memory" } },
    ]);
  });

  it("asks for everything anew at a welcome", () => {
    session.want(STATS);
    session.want(MAP);
    sent.length = 0;
    session.welcome(welcome());
    expect(sent.map((message) => message.op)).toEqual(["sub", "sub"]);
  });

  it("acknowledges the newest of each view, once", () => {
    subscribed();
    session.binary(frame(7, 1, 0));
    session.binary(frame(7, 2, 1));
    session.acknowledge();
    session.acknowledge();
    expect(sent).toEqual([{ op: "ack", frames: [[1, 2]] }]);
    expect(session.picture("map")?.values.at(0)).toBe(42);
  });

  it("asks for a KEY once after a gap, acknowledges what it dropped, and recovers", () => {
    subscribed();
    session.binary(frame(7, 1, 0));
    session.binary(frame(7, 3, 2));
    session.binary(frame(7, 4, 3));
    session.acknowledge();
    expect(sent).toEqual([
      { op: "resync", id: 1 },
      { op: "ack", frames: [[1, 4]] },
    ]);
    expect(session.picture("map")?.whole).toBe(false);
    session.binary(frame(7, 5, 0));
    session.binary(frame(7, 6, 5));
    expect(session.picture("map")?.whole).toBe(true);
    expect(session.framesLost).toBe(2);
  });

  it("waits for the KEY of a new schema without asking", () => {
    subscribed();
    session.binary(frame(7, 5, 0));
    schema(1, 9, 5);
    session.binary(frame(7, 6, 5));
    session.binary(frame(9, 2, 1));
    expect(sent).toEqual([]);
    session.binary(frame(9, 3, 0));
    expect(session.picture("map")?.whole).toBe(true);
    expect(session.intervalMs("map")).toBe(200);
    session.acknowledge();
    expect(sent).toEqual([{ op: "ack", frames: [[1, 3]] }]);
  });

  it("forgets hosts when the server restarted, and only then", () => {
    session.welcome(welcome("a"));
    const version = hosts.version;
    session.welcome(welcome("a"));
    expect(hosts.version).toBe(version);
    session.welcome(welcome("b"));
    expect(hosts.version).toBeGreaterThan(version);
  });

  it("never sees a frame from the future", () => {
    subscribed();
    session.welcome(welcome());
    schema(1, 7);
    const ahead = Date.now() + 5_000;
    session.binary(frame(7, 1, 0, ahead));
    expect(Date.now() + session.clockOffsetMs).toBeGreaterThanOrEqual(ahead);
  });

  it("keeps an error with its view", () => {
    session.want(MAP);
    session.text({ op: "err", id: 1, code: "bad_view", message: "no such metric" });
    session.text({ op: "err", id: null, code: "bad_message", message: "what?" });
    expect(session.errorOf("map")).toBe("no such metric");
    expect(shown).toEqual(["map"]);
  });

  it("hands over a past without a word about it", () => {
    subscribed();
    session.binary(frame(7, 5, 0));
    session.acknowledge();
    session.binary(backfill(7));
    session.acknowledge();
    session.binary(backfill(8));
    session.binary(frame(7, 6, 5));
    session.acknowledge();
    expect(told.map(({ points }) => points)).toEqual([2]);
    expect(sent).toEqual([
      { op: "ack", frames: [[1, 5]] },
      { op: "ack", frames: [[1, 6]] },
    ]);
    expect([session.framesApplied, session.framesLost]).toEqual([2, 0]);
  });

  it("asks for a view and its past once more, and keeps the picture", () => {
    subscribed();
    session.binary(frame(7, 5, 0));
    session.renew("map");
    expect(sent).toEqual([
      { op: "unsub", id: 1 },
      { op: "sub", id: 2, view: MAP },
    ]);
    sent.length = 0;
    session.binary(frame(7, 6, 5));
    session.acknowledge();
    expect(sent).toEqual([]);
    expect(session.picture("map")?.values.at(0)).toBe(42);
    schema(2, 7);
    session.binary(frame(7, 7, 0));
    session.acknowledge();
    expect(sent).toEqual([{ op: "ack", frames: [[2, 7]] }]);
  });

  it("shows the past and nothing else of a map until the node says that it is over", () => {
    subscribed();
    session.binary(frame(7, 1, 0));
    session.rewind(60_000, 10);
    session.binary(past(7, T0 - 1, 1));
    session.binary(frame(7, 2, 1));
    expect([session.picture("map")?.values.at(0), session.newestFrameMs]).toEqual([42, T0]);
    session.text({ op: "replay", from: T0 - 60_000, speed: 10 });
    session.binary(frame(7, 3, 2));
    session.binary(past(7, T0 - 50_000, 9));
    session.binary(past(7, T0 - 40_000, 8));
    session.binary(past(9, T0 - 30_000, 7));
    expect(session.picture("map")?.values.at(0)).toBe(8);
    expect([session.picture("map")?.whole, session.newestFrameMs]).toEqual([true, T0]);
    expect(replays.map((replay) => (replay ? T0 - replay.timeMs : null))).toEqual([
      60_000, 50_000, 40_000,
    ]);
    session.acknowledge();
    session.goLive();
    session.text({ op: "live" });
    session.binary(past(7, T0 - 30_000, 7));
    // Of before the KEY: nothing follows the past but that.
    session.binary(frame(7, 4, 3));
    const picture = session.picture("map");
    expect([picture?.values.at(0), picture?.whole]).toEqual([8, false]);
    session.binary(frame(7, 5, 0));
    expect([picture?.values.at(0), picture?.whole]).toEqual([42, true]);
    expect(replays.at(-1)).toBe(null);
    const ops = sent.map((message) => message.op);
    expect(ops).toEqual(["replay", "ack", "live"]);
    expect(sent[1]).toEqual({ op: "ack", frames: [[1, 3]] });
  });

  it("rewinds by the server's clock, and says why it may not", () => {
    session.welcome({ ...welcome(), now: Date.now() + 5_000 });
    sent.length = 0;
    session.rewind(60_000, 60);
    const [asked] = sent;
    if (asked?.op !== "replay") throw new Error("it did not ask");
    expect(Math.abs(asked.from - (Date.now() - 55_000))).toBeLessThan(1_000);
    session.text({ op: "err", id: null, code: "limit", message: "full" });
    session.text({ op: "err", id: null, code: "bad_message", message: "another matter" });
    expect([refusals, replays]).toEqual([["full"], []]);
  });

  it("is in the present after a reconnect", () => {
    subscribed();
    session.text({ op: "replay", from: T0, speed: 1 });
    session.welcome(welcome());
    expect(replays.at(-1)).toBe(null);
    expect(session.picture("map")?.whole).toBe(false);
  });

  it("drops frames that are none, and of views it no longer has", () => {
    subscribed();
    session.binary(new ArrayBuffer(3));
    session.binary(frame(8, 1, 0));
    session.drop("map");
    session.binary(frame(7, 1, 0));
    expect([session.framesApplied, session.framesLost]).toEqual([0, 1]);
    expect(shown).toEqual([]);
  });
});
