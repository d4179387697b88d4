// Which nodes are missing, as this page's own node tells it (docs/PROTOCOL.md 2.8).

const ASK_INTERVAL_MS = 2_000;
/** Of more nodes than these the rest is a number: the bar has one line. */
const NAMED_MAX = 3;

export interface Peer {
  readonly name: string;
  readonly state: string;
  /** Since its last message. */
  readonly age_ms: number;
}

/** The answer of `GET /api/nodes`. */
export interface Nodes {
  /** False: Redis, by which peers would be heard, cannot be reached. */
  readonly linked: boolean;
  readonly peers: readonly Peer[];
}

interface Told {
  readonly nodes: Nodes;
  readonly atMs: number;
}

const UNKNOWN = "a node is missing";

/** Invariant: nothing is asked, and nothing known, while no node is missing. */
export class Missing {
  #told: Told | null = null;
  #words = UNKNOWN;
  #askedMs = Number.NEGATIVE_INFINITY;
  /** An answer to what was asked before this began anew is nobody's any more. */
  #era = 0;
  readonly #ask: () => Promise<Nodes>;

  constructor(ask: () => Promise<Nodes>) {
    this.#ask = ask;
  }

  /**
   * Called again and again; what there is to say, and null while nobody is missing. A page that is
   * paused or cut off (`flows` is false) knows no more than it did: its words stand still.
   */
  words(isPartial: boolean, flows: boolean, nowMs: number): string | null {
    if (!isPartial) {
      this.#era += 1;
      this.#told = null;
      this.#words = UNKNOWN;
      this.#askedMs = Number.NEGATIVE_INFINITY;
      return null;
    }
    if (!flows) return this.#words;
    if (nowMs - this.#askedMs >= ASK_INTERVAL_MS) this.#askNow(nowMs);
    const told = this.#told;
    this.#words = told === null ? UNKNOWN : describeMissing(told.nodes, nowMs - told.atMs);
    return this.#words;
  }

  #askNow(nowMs: number): void {
    this.#askedMs = nowMs;
    const era = ++this.#era;
    const tell = (told: Told | null): void => {
      if (era === this.#era) this.#told = told;
    };
    this.#ask().then(
      (nodes) => tell({ nodes, atMs: nowMs }),
      () => tell(null),
    );
  }
}

/** `sinceMs` is how old the answer is: the silence went on meanwhile. */
export function describeMissing({ linked, peers }: Nodes, sinceMs: number): string {
  const silence = ({ age_ms }: Peer): string => formatSilence(age_ms + sinceMs);
  if (!linked) {
    const unseen = peers.filter(({ state }) => state !== "left").sort(byAge);
    const [newest] = unseen;
    if (newest === undefined) return "Redis cannot be reached";
    const nodes = unseen.length === 1 ? "1 node" : `${unseen.length} nodes`;
    return `Redis cannot be reached: ${nodes} unseen for ${silence(newest)}`;
  }
  const silent = peers.filter(({ state }) => state === "unreachable").sort(byAge);
  const [only] = silent;
  if (only === undefined) return describeComing(peers);
  if (silent.length === 1) return `node ${only.name} silent for ${silence(only)}`;
  const named = silent.slice(0, NAMED_MAX).map((peer) => `${peer.name} for ${silence(peer)}`);
  const rest = silent.length - named.length;
  const more = rest === 0 ? "" : ` and ${rest} more`;
  return `${silent.length} nodes silent: ${named.join(", ")}${more}`;
}

/** Nobody is silent: who is there is not known yet, or what it has. */
function describeComing(peers: readonly Peer[]): string {
  const coming = peers.filter(({ state }) => state === "joining");
  const [only] = coming;
  if (only === undefined) return "looking for other nodes";
  if (coming.length === 1) return `node ${only.name} is joining`;
  return `${coming.length} nodes are joining`;
}

function byAge(a: Peer, b: Peer): number {
  return a.age_ms - b.age_ms;
}

/** Whole seconds: it changes in plain sight once a second, not with each look. */
function formatSilence(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h`;
}
