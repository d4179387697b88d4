// Text messages of `tidewall.v1` (docs/PROTOCOL.md 2.1, 2.2).

export type HostRow = readonly [slot: number, name: string, tags: Readonly<Record<string, string>>];

export interface Welcome {
  readonly op: "welcome";
  readonly boot: string;
  readonly now: number;
  readonly tick_ms: number;
  /** By what this page is known to the node. Only a cookie can be given back: by signing out. */
  readonly auth?: string;
}
export interface HostsAt {
  readonly op: "hosts";
  readonly epoch: number;
  readonly url: string;
}
export interface HostsPatch {
  readonly op: "hosts_patch";
  readonly from: number;
  readonly to: number;
  readonly set?: readonly HostRow[];
  readonly del?: readonly number[];
}
export interface Schema {
  readonly op: "schema";
  readonly id: number;
  readonly view: number;
  readonly hz: number;
  readonly kind: string;
}
export interface Err {
  readonly op: "err";
  readonly id: number | null;
  readonly code: string;
  readonly message: string;
}
export interface Bye {
  readonly op: "bye";
  readonly code: number;
  readonly retry_ms: number;
}
/** The map and the ranking are in the past from now on. */
export interface Replay {
  readonly op: "replay";
  readonly from: number;
  readonly speed: number;
}
/** They are in the present again. */
export interface Live {
  readonly op: "live";
}
export type ServerMessage = Welcome | HostsAt | HostsPatch | Schema | Err | Bye | Replay | Live;

export interface LinesRequest {
  readonly kind: "lines";
  readonly exprs: readonly string[];
  readonly hz: number;
  /** How far back the node shall tell of what was before. */
  readonly backfill_s?: number;
}

export type ViewRequest =
  | { readonly kind: "map"; readonly metric: string; readonly hz: number }
  | LinesRequest
  | { readonly kind: "top"; readonly metric: string; readonly n: number; readonly hz: number }
  | { readonly kind: "host"; readonly host: string; readonly hz: number }
  | { readonly kind: "stats"; readonly hz: number };

export type ClientMessage =
  | { readonly op: "sub"; readonly id: number; readonly view: ViewRequest }
  | { readonly op: "unsub"; readonly id: number }
  | { readonly op: "ack"; readonly frames: readonly (readonly [id: number, seq: number])[] }
  | { readonly op: "resync"; readonly id: number }
  | Replay
  | Live
  | { readonly op: "pause" }
  | { readonly op: "play" };

const OPS = new Set(["welcome", "hosts", "hosts_patch", "schema", "err", "bye", "replay", "live"]);

/** null: not JSON, or an `op` of a newer server, which old clients ignore. */
export function parseMessage(text: string): ServerMessage | null {
  try {
    const message = JSON.parse(text) as { op?: unknown } | null;
    const known = typeof message?.op === "string" && OPS.has(message.op);
    return known ? (message as ServerMessage) : null;
  } catch {
    return null;
  }
}
