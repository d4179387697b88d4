// One WebSocket to the server, kept alive: connect, welcome, come back with full jitter.
//
// Knows nothing of views. Sockets and chance are passed in, so that tests need neither a network
// nor a sleep.

import type { ClientMessage, ServerMessage, Welcome } from "./messages";
import { parseMessage } from "./messages";

export const PROTOCOL = "tidewall.v1";
/** Full jitter between these two (docs/PROTOCOL.md 2.5). */
export const RETRY_MS_MIN = 500;
export const RETRY_MS_MAX = 30_000;
/** From the first connect to `welcome`; a black hole must not look like "connecting" for ever. */
export const WELCOME_TIMEOUT_MS = 10_000;
/** `stats` comes every second, so this much silence while playing is a dead path. */
export const SILENCE_TIMEOUT_MS = 15_000;
/** A connection that lived this long was good: the next retry starts from the least delay. */
const SETTLED_MS = 5_000;
const CLOSE_GOING = 1000;

/** What this needs of a `WebSocket`. */
export interface Socket {
  binaryType: string;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  send(text: string): void;
  close(code?: number): void;
}

export type Phase =
  | { readonly name: "idle" }
  | { readonly name: "connecting" }
  | { readonly name: "open" }
  | {
      readonly name: "waiting";
      readonly until: number;
      readonly code: number;
      /** Whether the connection that ended had been open. */
      readonly opened: boolean;
    }
  | { readonly name: "refused"; readonly why: string }
  | { readonly name: "impossible"; readonly why: string };

export interface Listener {
  phase(phase: Phase): void;
  welcome(welcome: Welcome): void;
  text(message: ServerMessage): void;
  binary(buffer: ArrayBuffer): void;
}

export interface Outside {
  open(): Socket;
  random(): number;
}

type Timer = ReturnType<typeof setTimeout>;

/**
 * Invariant: `#socket` is set exactly in the phases connecting and open; at most one of the
 * timers retry and watch runs.
 */
export class Connection {
  #phase: Phase = { name: "idle" };
  #socket: Socket | null = null;
  #timer: Timer | undefined;
  #attempts = 0;
  #openedAt = 0;
  #retryMs: number | null = null;
  /** The last word said about the flow, so that each change is said once. */
  #flowing = true;
  #paused = false;
  #hidden = false;
  readonly #outside: Outside;
  readonly #listener: Listener;

  constructor(outside: Outside, listener: Listener) {
    this.#outside = outside;
    this.#listener = listener;
  }

  get phase(): Phase {
    return this.#phase;
  }

  /** Open, and neither paused nor hidden: what is asked for is seen. */
  get flows(): boolean {
    return this.#phase.name === "open" && this.#flowWanted();
  }

  get paused(): boolean {
    return this.#paused;
  }

  /** Also "now" of the reconnect notice: a waiting retry is brought forward. */
  connect(): void {
    if (this.#socket !== null || this.#phase.name === "impossible") return;
    clearTimeout(this.#timer);
    let socket: Socket;
    try {
      socket = this.#outside.open();
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      return this.#enter({ name: "impossible", why });
    }
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onmessage = (event) => this.#message(socket, event.data);
    socket.onclose = (event) => this.#closed(socket, event.code);
    this.#enter({ name: "connecting" });
    this.#watch(WELCOME_TIMEOUT_MS);
  }

  /** The node says no, and will say it again: nothing is tried until `connect` is called. */
  refuse(why: string): void {
    if (this.#phase.name === "impossible") return;
    const socket = this.#socket;
    this.#drop();
    socket?.close(CLOSE_GOING);
    this.#enter({ name: "refused", why });
  }

  /** The user's pause. A paused picture is left alone: no retry until play. */
  setPaused(paused: boolean): void {
    this.#paused = paused;
    this.#flowChanged();
  }

  /** A hidden page paints nothing, so it asks for nothing. */
  setHidden(hidden: boolean): void {
    this.#hidden = hidden;
    this.#flowChanged();
  }

  /** False while not welcomed: the session says everything anew at the next welcome. */
  send(message: ClientMessage): boolean {
    if (this.#phase.name !== "open" || this.#socket === null) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  #flowWanted(): boolean {
    return !this.#paused && !this.#hidden;
  }

  #flowChanged(): void {
    const wanted = this.#flowWanted();
    if (this.#phase.name === "waiting" || this.#phase.name === "idle") {
      if (wanted) this.connect();
      else clearTimeout(this.#timer);
      return;
    }
    if (this.#phase.name !== "open" || wanted === this.#flowing) return;
    this.#flowing = wanted;
    this.send({ op: wanted ? "play" : "pause" });
    this.#watch(SILENCE_TIMEOUT_MS);
  }

  #message(socket: Socket, data: unknown): void {
    if (socket !== this.#socket) return;
    if (data instanceof ArrayBuffer) {
      if (this.#phase.name !== "open") return;
      this.#watch(SILENCE_TIMEOUT_MS);
      return this.#listener.binary(data);
    }
    const message = typeof data === "string" ? parseMessage(data) : null;
    if (message === null) return;
    if (message.op === "welcome") return this.#welcomed(message);
    if (message.op === "bye") this.#retryMs = Math.max(0, message.retry_ms);
    if (this.#phase.name === "open") this.#watch(SILENCE_TIMEOUT_MS);
    this.#listener.text(message);
  }

  #welcomed(welcome: Welcome): void {
    this.#openedAt = Date.now();
    this.#flowing = true;
    this.#enter({ name: "open" });
    this.#listener.welcome(welcome);
    this.#watch(SILENCE_TIMEOUT_MS);
    this.#flowChanged();
  }

  #closed(socket: Socket, code: number): void {
    if (socket !== this.#socket) return;
    this.#drop();
    const opened = this.#phase.name === "open";
    if (opened && Date.now() - this.#openedAt >= SETTLED_MS) this.#attempts = 0;
    const delay = this.#retryMs ?? retryDelay(this.#attempts, this.#outside.random());
    this.#retryMs = null;
    this.#attempts += 1;
    this.#enter({ name: "waiting", until: Date.now() + delay, code, opened });
    if (this.#flowWanted()) this.#timer = setTimeout(() => this.connect(), delay);
  }

  /** Closes by itself what has been silent too long; while paused silence is what was asked for. */
  #watch(ms: number): void {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    if (socket === null || (this.#phase.name === "open" && !this.#flowing)) return;
    this.#timer = setTimeout(() => {
      socket.close(CLOSE_GOING);
      this.#closed(socket, 0);
    }, ms);
  }

  #drop(): void {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    if (socket === null) return;
    socket.onmessage = null;
    socket.onclose = null;
  }

  #enter(phase: Phase): void {
    this.#phase = phase;
    this.#listener.phase(phase);
  }
}

/** Full jitter: anywhere between the least delay and a ceiling that doubles with each failure. */
export function retryDelay(attempts: number, random: number): number {
  const ceiling = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** (attempts + 1));
  return RETRY_MS_MIN + random * (ceiling - RETRY_MS_MIN);
}
