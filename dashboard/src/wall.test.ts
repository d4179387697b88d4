// The wall before a node that says no: where it goes, what it says, and that it stops asking.

import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Socket } from "./live/connection";
import { wishOfHash } from "./state";
import { Wall } from "./wall";
import { Flag, HEADER_BYTES, SECTION_BYTES } from "./wire/frame";

const HOURS_MS = 3_600_000;
const STATS = { hosts: { ok: 1, stale: 0, down: 0 }, metrics: {} };

/** A KEY of one JSON section. */
function key(view: number, seq: number, flags: number, json: unknown): ArrayBuffer {
  const text = new TextEncoder().encode(JSON.stringify(json));
  const padded = Math.ceil(text.length / 8) * 8;
  const buffer = new ArrayBuffer(HEADER_BYTES + SECTION_BYTES + padded);
  const data = new DataView(buffer);
  data.setUint16(0, 0x5754, true);
  data.setUint8(2, 1);
  data.setUint8(3, 1);
  data.setUint32(4, view, true);
  data.setUint32(8, seq, true);
  data.setFloat64(16, Date.now(), true);
  data.setUint16(28, flags, true);
  data.setUint16(30, 1, true);
  data.setUint8(HEADER_BYTES, 7);
  data.setUint32(HEADER_BYTES + 4, 1, true);
  data.setUint32(HEADER_BYTES + 8, text.length, true);
  new Uint8Array(buffer).set(text, HEADER_BYTES + SECTION_BYTES);
  return buffer;
}

class FakeSocket implements Socket {
  binaryType = "";
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  closed = false;

  readonly sent: {
    readonly op: string;
    readonly speed?: number;
    readonly id?: number;
    readonly view?: { readonly kind: string };
  }[] = [];

  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }

  close(): void {
    this.closed = true;
  }

  says(message: unknown): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }

  shows(frame: ArrayBuffer): void {
    this.onmessage?.({ data: frame });
  }
}

class Rig {
  readonly sockets: FakeSocket[] = [];
  readonly asked: string[] = [];
  left = 0;
  /** What every request is answered with; 0: not at all. */
  status = 200;
  body: unknown = null;
  readonly wall: Wall;

  constructor() {
    const outside = {
      open: () => {
        const socket = new FakeSocket();
        this.sockets.push(socket);
        return socket;
      },
      random: () => 0,
      fetch: (url: string, init?: RequestInit) => {
        this.asked.push(`${init?.method ?? "GET"} ${url}`);
        if (this.status === 0) return Promise.reject(new Error("connection refused"));
        const body = this.body === null ? null : JSON.stringify(this.body);
        return Promise.resolve(new Response(body, { status: this.status }));
      },
      leave: () => {
        this.left += 1;
      },
      setHash: () => undefined,
    };
    this.wall = new Wall(outside, wishOfHash(""), false);
    this.wall.start(false);
  }

  get socket(): FakeSocket {
    const socket = this.sockets[this.sockets.length - 1];
    if (!socket) throw new Error("no socket was opened");
    return socket;
  }

  get text(): string {
    return this.wall.store.get().status.text;
  }

  welcome(auth?: string): this {
    this.socket.says({ op: "welcome", boot: "a", now: Date.now(), tick_ms: 100, auth });
    return this;
  }

  /** The node feeds this page's view of that kind under this number. */
  grants(kind: string, view: number): void {
    const sub = this.socket.sent.find((message) => message.view?.kind === kind);
    this.socket.says({ op: "schema", id: sub?.id, view, hz: 1, kind });
  }

  /** The newest connection ends, and whatever was asked because of it is answered. */
  async ends(code = 1006): Promise<void> {
    this.socket.onclose?.({ code, reason: "" });
    await vi.advanceTimersByTimeAsync(0);
  }

  async retries(): Promise<void> {
    const before = this.sockets.length;
    while (this.sockets.length === before) await vi.advanceTimersByTimeAsync(100);
  }

  /** Nothing goes out any more, however long one waits. */
  async isQuiet(): Promise<void> {
    const before = [this.sockets.length, this.asked.length];
    await vi.advanceTimersByTimeAsync(HOURS_MS);
    expect([this.sockets.length, this.asked.length]).toEqual(before);
  }
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("requestAnimationFrame", () => 1);
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("a connection that never opened", () => {
  it("leads to the login page on 401, once", async () => {
    const rig = new Rig();
    rig.status = 401;
    await rig.ends();
    expect([rig.left, rig.asked]).toEqual([1, ["HEAD /api/hosts"]]);
    await rig.isQuiet();
    expect(rig.left).toBe(1);
  });

  it("says on 403 that the token may not read, and asks again only when told to", async () => {
    const rig = new Rig();
    rig.status = 403;
    await rig.ends();
    expect([rig.left, rig.text]).toEqual([0, "No access"]);
    const { status, tokens } = rig.wall.store.get();
    expect(status.detail).toContain("This token may not read");
    expect([status.retry, tokens]).toEqual(["try again", true]);
    await rig.isQuiet();
    rig.wall.retryNow();
    expect([rig.sockets.length, rig.text]).toEqual([2, "Connecting"]);
  });

  it("comes back for ever from anything else", async () => {
    const rig = new Rig();
    for (const [status, said] of [
      [200, "The connection was lost"],
      [503, "The server answers 503"],
      [0, "The server does not answer"],
    ] as const) {
      rig.status = status;
      await rig.ends();
      expect(rig.text).toMatch(/^Reconnecting/);
      expect(rig.wall.store.get().status.detail).toBe(said);
      await rig.retries();
    }
    expect([rig.left, rig.asked.length]).toEqual([0, 3]);
  });

  it("leaves a paused picture alone until play", async () => {
    const rig = new Rig();
    rig.status = 401;
    rig.wall.togglePause();
    await rig.ends();
    await rig.isQuiet();
    expect(rig.left).toBe(0);
    rig.wall.togglePause();
    await rig.ends();
    expect(rig.left).toBe(1);
  });
});

describe("a connection that was open", () => {
  it("asks nothing when it ends, but when it cannot come back", async () => {
    const rig = new Rig().welcome();
    rig.status = 401;
    await rig.ends(4001);
    expect([rig.left, rig.asked]).toEqual([0, []]);
    await rig.retries();
    await rig.ends();
    expect([rig.left, rig.asked]).toEqual([1, ["HEAD /api/hosts"]]);
  });

  it("is closed when the host table is refused", async () => {
    for (const status of [401, 403]) {
      const rig = new Rig().welcome();
      rig.status = status;
      const { socket } = rig;
      socket.says({ op: "hosts", epoch: 1, url: "/api/hosts?epoch=1" });
      await vi.advanceTimersByTimeAsync(0);
      expect([socket.closed, rig.left]).toEqual([true, status === 401 ? 1 : 0]);
      expect(rig.text).toBe("No access");
      await rig.isQuiet();
    }
  });
});

describe("a replay", () => {
  it("is asked for, named as one, and over when the node says so", () => {
    const rig = new Rig().welcome();
    rig.wall.rewind(HOURS_MS, 60);
    expect(rig.socket.sent.at(-1)).toMatchObject({ op: "replay", speed: 60 });
    expect(rig.wall.store.get().replay).toBe(null);
    rig.socket.says({ op: "replay", from: 5_000, speed: 60 });
    expect(rig.wall.store.get().replay).toEqual({ timeMs: 5_000, speed: 60 });
    rig.wall.goLive();
    expect(rig.socket.sent.at(-1)).toEqual({ op: "live" });
    rig.socket.says({ op: "live" });
    expect(rig.wall.store.get().replay).toBe(null);
  });

  it("says why there is none", () => {
    const rig = new Rig().welcome();
    rig.wall.rewind(HOURS_MS, 60);
    rig.socket.says({ op: "err", id: null, code: "bad_message", message: "no history" });
    expect(rig.wall.store.get().problem).toBe("No replay: no history");
    rig.wall.rewind(HOURS_MS, 60);
    expect(rig.wall.store.get().replay).toBe(null);
  });
});

describe("nodes", () => {
  const partial = (rig: Rig, seq: number, flags: number): Promise<unknown> => {
    rig.socket.shows(key(7, seq, flags, STATS));
    return vi.advanceTimersByTimeAsync(500);
  };
  const missing = (rig: Rig): string | null => rig.wall.store.get().missing;
  const silent = { name: "b", state: "unreachable", age_ms: 3_000, hosts: 5 };

  it("are asked for and named while one is missing, and only then", async () => {
    const rig = new Rig().welcome();
    rig.body = { node: "a", linked: true, partial: true, peers: [silent] };
    rig.grants("stats", 7);
    await partial(rig, 1, 0);
    expect([missing(rig), rig.asked]).toEqual([null, []]);
    await partial(rig, 2, Flag.Partial);
    expect([missing(rig), rig.asked]).toEqual(["node b silent for 3 s", ["GET /api/nodes"]]);
    await vi.advanceTimersByTimeAsync(2_000);
    expect(rig.asked).toHaveLength(2);
    await partial(rig, 3, 0);
    await vi.advanceTimersByTimeAsync(5_000);
    expect([missing(rig), rig.asked.length]).toEqual([null, 2]);
  });

  it("are not asked for by a page that is paused", async () => {
    const rig = new Rig().welcome();
    rig.grants("stats", 7);
    rig.wall.togglePause();
    await partial(rig, 1, Flag.Partial);
    expect([missing(rig), rig.asked]).toEqual(["a node is missing", []]);
  });

  it("lead to the login page when the token no longer holds", async () => {
    const rig = new Rig().welcome();
    rig.status = 401;
    rig.grants("stats", 7);
    await partial(rig, 1, Flag.Partial);
    expect(rig.left).toBe(1);
  });

  it("are told of with the host that one of them heard", () => {
    const rig = new Rig().welcome();
    rig.wall.openHost("web-1");
    rig.grants("host", 8);
    const host = { host: "web-1", slot: 3, tags: {}, metrics: [] };
    const told = (): unknown[] => {
      const drawer = rig.wall.store.get().drawer;
      return [drawer?.node, drawer?.cause];
    };
    rig.socket.shows(key(8, 1, 0, host));
    expect(told()).toEqual([null, null]);
    rig.socket.shows(key(8, 2, 0, { ...host, node: "b", cause: "node b unreachable" }));
    expect(told()).toEqual(["b", "node b unreachable"]);
    rig.socket.shows(key(8, 3, 0, { ...host, node: "b" }));
    expect(told()).toEqual(["b", null]);
  });
});

describe("signing out", () => {
  it("is offered to who is known by a cookie", () => {
    const offered = (auth?: string): boolean => new Rig().welcome(auth).wall.store.get().tokens;
    expect([offered(), offered("header"), offered("cookie")]).toEqual([false, false, true]);
  });

  it("leaves once the cookie is gone, and says so if it is not", async () => {
    const rig = new Rig().welcome("cookie");
    rig.status = 503;
    rig.wall.signOut();
    await vi.advanceTimersByTimeAsync(0);
    expect([rig.left, rig.wall.store.get().problem]).toEqual([0, "Could not sign out (503)"]);
    rig.status = 200;
    rig.wall.signOut();
    await vi.advanceTimersByTimeAsync(0);
    expect([rig.left, rig.asked]).toEqual([1, ["POST /logout", "POST /logout"]]);
    expect(rig.socket.closed).toBe(true);
  });
});
