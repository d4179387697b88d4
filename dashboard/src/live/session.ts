// The views this page wants, their pictures, and the acknowledgements owed for them.
//
// Wishes are declared by name ("map", "host"); what is said to the server follows from them, at
// once when connected, at the next welcome when not.

import type { Backfill } from "../wire/backfill";
import { readBackfill } from "../wire/backfill";
import type { Frame } from "../wire/frame";
import { FrameType, WireError, parseFrame } from "../wire/frame";
import type { Kind, Picture, PictureOf } from "../wire/picture";
import { newPicture } from "../wire/picture";
import type { Connection } from "./connection";
import type { Hosts } from "./hosts";
import type { Err, Schema, ServerMessage, ViewRequest, Welcome } from "./messages";

interface Open {
  id: number;
  readonly kind: Kind;
  readonly request: ViewRequest;
  readonly picture: Picture;
  /** The node's number in frame headers; null until its `schema`. */
  view: number | null;
  /** As granted by the server, which may be less than asked for. */
  hz: number;
  received: number;
  acked: number;
  error: string | null;
}

export interface SessionEvents {
  /** A picture changed, or stopped being whole. */
  picture(kind: Kind): void;
  /** What was before, for who asked for it. */
  backfill(backfill: Backfill): void;
  /** The past began, moved on or is over. */
  replay(replay: Replaying | null): void;
  /** There will be no past, and why. */
  refused(why: string): void;
}

/** Where in the past the map, the ranking and the lines are. */
export interface Replaying {
  readonly timeMs: number;
  readonly speed: number;
}

/** Kinds that a replay shows the past of. */
const REPLAYED: readonly Kind[] = ["map", "top", "lines"];

/** Invariant: at most one open view a kind; `#byView` holds exactly the views with a number. */
export class Session {
  connection: Connection | null = null;
  boot = "";
  tickMs = 100;
  /** Server clock minus ours, ms. */
  clockOffsetMs = 0;
  newestFrameMs = 0;
  framesApplied = 0;
  framesLost = 0;
  /** null: the present. No live frame of the kinds replayed is shown until it is null again. */
  replay: Replaying | null = null;
  #replayAsked = false;
  readonly #open = new Map<Kind, Open>();
  readonly #byView = new Map<number, Open>();
  #nextId = 1;
  readonly #hosts: Hosts;
  readonly #events: SessionEvents;

  constructor(hosts: Hosts, events: SessionEvents) {
    this.#hosts = hosts;
    this.#events = events;
  }

  picture<K extends Kind>(kind: K): PictureOf[K] | null {
    return (this.#open.get(kind)?.picture as PictureOf[K] | undefined) ?? null;
  }

  errorOf(kind: Kind): string | null {
    return this.#open.get(kind)?.error ?? null;
  }

  intervalMs(kind: Kind): number {
    return Math.max(this.tickMs, 1000 / (this.#open.get(kind)?.hz ?? 1));
  }

  want(request: ViewRequest): void {
    const before = this.#open.get(request.kind);
    if (before && JSON.stringify(before.request) === JSON.stringify(request)) return;
    this.drop(request.kind);
    const view: Open = {
      id: this.#nextId++,
      kind: request.kind,
      request,
      picture: newPicture(request.kind),
      view: null,
      hz: request.hz,
      received: 0,
      acked: 0,
      error: null,
    };
    view.picture.restart();
    this.#open.set(request.kind, view);
    this.connection?.send({ op: "sub", id: view.id, view: request });
  }

  drop(kind: Kind): void {
    const view = this.#open.get(kind);
    if (!view) return;
    this.#open.delete(kind);
    if (view.view !== null) this.#byView.delete(view.view);
    this.connection?.send({ op: "unsub", id: view.id });
  }

  /** Asks for a view once more, its past included; the picture stays until its next KEY. */
  renew(kind: Kind): void {
    const view = this.#open.get(kind);
    if (!view) return;
    if (view.view !== null) this.#byView.delete(view.view);
    this.connection?.send({ op: "unsub", id: view.id });
    view.id = this.#nextId++;
    view.view = null;
    view.received = 0;
    view.acked = 0;
    this.connection?.send({ op: "sub", id: view.id, view: view.request });
  }

  /** Shows how it was that long ago, and from there on. */
  rewind(backMs: number, speed: number): void {
    const from = Math.floor(Date.now() + this.clockOffsetMs - backMs);
    this.#replayAsked = true;
    this.connection?.send({ op: "replay", from, speed });
  }

  goLive(): void {
    this.connection?.send({ op: "live" });
  }

  /** To be called after paint; what was dropped counts too, or the server would stop. */
  acknowledge(): void {
    const frames: [number, number][] = [];
    for (const view of this.#open.values()) {
      if (view.received === view.acked) continue;
      frames.push([view.id, view.received]);
      view.acked = view.received;
    }
    if (frames.length > 0) this.connection?.send({ op: "ack", frames });
  }

  welcome(welcome: Welcome): void {
    if (welcome.boot !== this.boot) this.#hosts.clear();
    this.boot = welcome.boot;
    this.tickMs = welcome.tick_ms;
    this.clockOffsetMs = welcome.now - Date.now();
    this.#byView.clear();
    this.#setReplay(null);
    for (const view of this.#open.values()) {
      view.view = null;
      view.received = 0;
      view.acked = 0;
      view.error = null;
      view.picture.restart();
      this.connection?.send({ op: "sub", id: view.id, view: view.request });
    }
  }

  text(message: ServerMessage): void {
    switch (message.op) {
      case "hosts":
        return this.#hosts.announced(message);
      case "hosts_patch":
        return this.#hosts.patch(message);
      case "schema":
        return this.#schema(message);
      case "err":
        return this.#err(message);
      case "replay":
        return this.#setReplay({ timeMs: message.from, speed: message.speed });
      case "live":
        return this.#setReplay(null);
    }
  }

  binary(buffer: ArrayBuffer): void {
    let frame: Frame;
    try {
      frame = parseFrame(buffer);
    } catch {
      this.framesLost += 1;
      return;
    }
    const view = this.#byView.get(frame.view);
    if (!view) return;
    if (frame.type === FrameType.Backfill) return this.#backfill(frame);
    if (frame.type === FrameType.Replay) return this.#past(view, frame);
    view.received = frame.seq;
    // On its way when the past began.
    if (this.replay !== null && REPLAYED.includes(view.kind)) return;
    const verdict = view.picture.take(frame);
    if (verdict === "applied") this.#applied(frame);
    else this.framesLost += 1;
    if (verdict === "resync") this.connection?.send({ op: "resync", id: view.id });
    this.#events.picture(view.kind);
  }

  #past(view: Open, frame: Frame): void {
    if (this.replay === null || !REPLAYED.includes(view.kind)) return;
    if (view.picture.rewind(frame)) {
      this.framesApplied += 1;
      this.#setReplay({ ...this.replay, timeMs: frame.timeMs });
    } else {
      this.framesLost += 1;
    }
    this.#events.picture(view.kind);
  }

  #setReplay(replay: Replaying | null): void {
    this.#replayAsked = false;
    if (this.replay === null && replay === null) return;
    this.replay = replay;
    if (replay === null) {
      for (const kind of REPLAYED) this.#open.get(kind)?.picture.restart();
    }
    this.#events.replay(replay);
  }

  #backfill(frame: Frame): void {
    try {
      this.#events.backfill(readBackfill(frame));
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.framesLost += 1;
    }
  }

  #applied(frame: Frame): void {
    this.framesApplied += 1;
    this.newestFrameMs = frame.timeMs;
    // No frame is from the future: a welcome that was long on its way made the offset too small.
    this.clockOffsetMs = Math.max(this.clockOffsetMs, frame.timeMs - Date.now());
  }

  #schema(schema: Schema): void {
    for (const view of this.#open.values()) {
      if (view.id !== schema.id) continue;
      if (view.view !== null) this.#byView.delete(view.view);
      view.view = schema.view;
      view.hz = schema.hz;
      view.received = 0;
      view.acked = 0;
      view.error = null;
      view.picture.restart();
      this.#byView.set(schema.view, view);
    }
  }

  #err(err: Err): void {
    if (err.id === null && this.#replayAsked) {
      this.#replayAsked = false;
      this.#events.refused(err.message);
    }
    for (const view of this.#open.values()) {
      if (view.id === err.id && err.code !== "unknown_id") {
        view.error = err.message;
        this.#events.picture(view.kind);
      }
    }
  }
}
