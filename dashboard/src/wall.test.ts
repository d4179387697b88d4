// The wall before a node that says no: where it goes, what it says, and that it stops asking.

import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Socket } from "./live/connection";
import { wishOfHash } from "./state";
import { Wall } from "./wall";

const HOURS_MS = 3_600_000;

class FakeSocket implements Socket {
  binaryType = "";
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  closed = false;

  readonly sent: { readonly op: string; readonly speed?: number }[] = [];

  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }

  close(): void {
    this.closed = true;
  }

  says(message: unknown): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }
}

class Rig {
  readonly sockets: FakeSocket[] = [];
  readonly asked: string[] = [];
  left = 0;
  /** What every request is answered with; 0: not at all. */
  status = 200;
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
        return Promise.resolve(new Response(null, { status: this.status }));
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
