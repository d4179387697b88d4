import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Outside, Phase, Socket } from "./connection";
import {
  Connection,
  RETRY_MS_MAX,
  RETRY_MS_MIN,
  SILENCE_TIMEOUT_MS,
  WELCOME_TIMEOUT_MS,
  retryDelay,
} from "./connection";
import type { ServerMessage } from "./messages";

class FakeSocket implements Socket {
  binaryType = "";
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  readonly sent: unknown[] = [];
  closed = false;

  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }

  close(): void {
    this.closed = true;
  }

  says(message: unknown): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }

  frame(): void {
    this.onmessage?.({ data: new ArrayBuffer(8) });
  }

  fails(code = 1006): void {
    this.onclose?.({ code, reason: "" });
  }
}

class Rig {
  readonly sockets: FakeSocket[] = [];
  readonly phases: string[] = [];
  readonly texts: string[] = [];
  frames = 0;
  random = 0;
  readonly connection: Connection;

  constructor() {
    const outside: Outside = {
      open: () => {
        const socket = new FakeSocket();
        this.sockets.push(socket);
        return socket;
      },
      random: () => this.random,
    };
    this.connection = new Connection(outside, {
      phase: (phase: Phase) => this.phases.push(phase.name),
      welcome: () => this.texts.push("welcome"),
      text: (message: ServerMessage) => this.texts.push(message.op),
      binary: () => {
        this.frames += 1;
      },
    });
  }

  get socket(): FakeSocket {
    const socket = this.sockets[this.sockets.length - 1];
    if (!socket) throw new Error("no socket was opened");
    return socket;
  }

  live(): this {
    this.connection.connect();
    this.welcome();
    return this;
  }

  welcome(): void {
    this.socket.says({ op: "welcome", boot: "a", now: Date.now(), tick_ms: 100 });
  }

  get waitMs(): number {
    const { phase } = this.connection;
    return phase.name === "waiting" ? phase.until - Date.now() : -1;
  }
}

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

describe("connection", () => {
  it("is open at welcome and hands on what comes", () => {
    const rig = new Rig().live();
    expect(rig.phases).toEqual(["connecting", "open"]);
    expect(rig.socket.binaryType).toBe("arraybuffer");
    rig.socket.frame();
    rig.socket.says({ op: "hosts", epoch: 1, url: "/api/hosts" });
    rig.socket.says({ op: "of a newer server" });
    rig.socket.onmessage?.({ data: "not JSON" });
    expect(rig.frames).toBe(1);
    expect(rig.texts).toEqual(["welcome", "hosts"]);
  });

  it("sends nothing before welcome", () => {
    const rig = new Rig();
    rig.connection.connect();
    expect(rig.connection.send({ op: "play" })).toBe(false);
    rig.socket.frame();
    expect(rig.frames).toBe(0);
  });

  it("comes back by itself, later each time", () => {
    const rig = new Rig();
    rig.random = 1;
    rig.connection.connect();
    const waits: number[] = [];
    for (let i = 0; i < 8; i++) {
      rig.socket.fails();
      waits.push(rig.waitMs);
      vi.advanceTimersByTime(rig.waitMs);
    }
    expect(waits).toEqual([1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
    expect(rig.sockets).toHaveLength(9);
  });

  it("starts from the least delay once a connection has lived", () => {
    const rig = new Rig();
    rig.random = 1;
    rig.connection.connect();
    for (let i = 0; i < 4; i++) {
      rig.socket.fails();
      vi.advanceTimersByTime(rig.waitMs);
    }
    rig.welcome();
    vi.advanceTimersByTime(6_000);
    rig.socket.fails();
    expect(rig.waitMs).toBe(1000);
  });

  it("keeps backing off from a server that welcomes and hangs up", () => {
    const rig = new Rig();
    rig.random = 1;
    for (let i = 0; i < 3; i++) {
      rig.live();
      rig.socket.fails(1013);
      if (i < 2) vi.advanceTimersByTime(rig.waitMs);
    }
    expect(rig.waitMs).toBe(4000);
  });

  it("waits as long as bye says, once", () => {
    const rig = new Rig().live();
    rig.socket.says({ op: "bye", code: 1012, retry_ms: 2300 });
    rig.socket.fails(1012);
    expect(rig.waitMs).toBe(2300);
    vi.advanceTimersByTime(2300);
    rig.socket.fails();
    expect(rig.waitMs).toBe(500);
  });

  it("goes at once when told to", () => {
    const rig = new Rig().live();
    rig.socket.fails();
    rig.connection.connect();
    expect(rig.sockets).toHaveLength(2);
    vi.advanceTimersByTime(RETRY_MS_MIN);
    expect(rig.sockets).toHaveLength(2);
  });

  it("gives up a server that never welcomes, and one that falls silent", () => {
    const rig = new Rig();
    rig.connection.connect();
    vi.advanceTimersByTime(WELCOME_TIMEOUT_MS);
    expect(rig.phases).toEqual(["connecting", "waiting"]);
    vi.advanceTimersByTime(rig.waitMs);
    rig.welcome();
    vi.advanceTimersByTime(SILENCE_TIMEOUT_MS - 1);
    rig.socket.frame();
    vi.advanceTimersByTime(SILENCE_TIMEOUT_MS - 1);
    expect(rig.connection.phase.name).toBe("open");
    vi.advanceTimersByTime(1);
    expect(rig.connection.phase.name).toBe("waiting");
    expect(rig.socket.closed).toBe(true);
  });

  it("stays away once refused, whatever phase that found it in", () => {
    for (const enter of ["idle", "connecting", "open", "waiting"]) {
      const rig = new Rig();
      if (enter !== "idle") rig.connection.connect();
      if (enter === "open") rig.welcome();
      if (enter === "waiting") rig.socket.fails();
      rig.connection.refuse("no");
      expect(rig.connection.phase).toEqual({ name: "refused", why: "no" });
      const before = rig.sockets.length;
      rig.connection.setHidden(true);
      rig.connection.setHidden(false);
      vi.advanceTimersByTime(3_600_000);
      expect(rig.sockets).toHaveLength(before);
      expect(rig.sockets.every((socket) => socket.closed)).toBe(enter !== "waiting");
      rig.connection.connect();
      rig.welcome();
      expect(rig.connection.phase.name).toBe("open");
    }
  });

  it("says impossible where there is no WebSocket", () => {
    const phases: Phase[] = [];
    const open = (): Socket => {
      throw new Error("it has none");
    };
    const nothing = (): void => undefined;
    const listener = { welcome: nothing, text: nothing, binary: nothing };
    const phase = (entered: Phase): number => phases.push(entered);
    new Connection({ open, random: () => 0 }, { ...listener, phase }).connect();
    expect(phases).toEqual([{ name: "impossible", why: "it has none" }]);
  });
});

describe("flow", () => {
  const PAUSE = { op: "pause" };
  const PLAY = { op: "play" };

  it("is paused once by two reasons and plays when both are gone", () => {
    const rig = new Rig().live();
    rig.connection.setPaused(true);
    rig.connection.setHidden(true);
    rig.connection.setPaused(false);
    expect(rig.socket.sent).toEqual([PAUSE]);
    rig.connection.setHidden(false);
    expect(rig.socket.sent).toEqual([PAUSE, PLAY]);
  });

  it("may be silent for hours while paused", () => {
    const rig = new Rig().live();
    rig.connection.setPaused(true);
    vi.advanceTimersByTime(8 * 3_600_000);
    expect(rig.connection.phase.name).toBe("open");
    rig.connection.setPaused(false);
    vi.advanceTimersByTime(SILENCE_TIMEOUT_MS);
    expect(rig.connection.phase.name).toBe("waiting");
  });

  it("says pause after a welcome that came while hidden", () => {
    const rig = new Rig();
    rig.connection.connect();
    rig.connection.setHidden(true);
    rig.welcome();
    expect(rig.socket.sent).toEqual([PAUSE]);
  });

  it("does not come back while hidden, but at once on return", () => {
    const rig = new Rig().live();
    rig.connection.setHidden(true);
    rig.socket.fails();
    vi.advanceTimersByTime(3_600_000);
    expect(rig.sockets).toHaveLength(1);
    rig.connection.setHidden(false);
    expect(rig.sockets).toHaveLength(2);
  });

  it("hidden while waiting calls the retry off", () => {
    const rig = new Rig().live();
    rig.socket.fails();
    rig.connection.setHidden(true);
    vi.advanceTimersByTime(RETRY_MS_MAX);
    expect(rig.sockets).toHaveLength(1);
  });
});

describe("retryDelay", () => {
  it("stays within its bounds, whatever the luck", () => {
    for (let attempts = 0; attempts < 200; attempts++) {
      for (const random of [0, 0.3, 0.999_999]) {
        const delay = retryDelay(attempts, random);
        expect(delay).toBeGreaterThanOrEqual(RETRY_MS_MIN);
        expect(delay).toBeLessThanOrEqual(RETRY_MS_MAX);
      }
    }
  });
});
