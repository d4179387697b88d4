// Ties the parts together: wire to pictures, pictures to canvases, the rest to the store.

import type { DeniedStatus } from "./live/api";
import { Api } from "./live/api";
import { Connection } from "./live/connection";
import type { Outside, Phase } from "./live/connection";
import { Hosts } from "./live/hosts";
import type { ServerMessage, Welcome } from "./live/messages";
import { Missing } from "./live/nodes";
import type { Replaying } from "./live/session";
import { Session } from "./live/session";
import { describe } from "./live/status";
import { TOP_SHOWN, TopOrder } from "./live/top";
import { LINES, LinesChart, SPAN_S } from "./lines/chart";
import { LinesFeed } from "./lines/feed";
import { History } from "./lines/history";
import { tagKeys } from "./map/groups";
import type { Pointed } from "./map/view";
import { MapView } from "./map/view";
import type { DrawerMetric, State, Wish } from "./state";
import { EMPTY_DRAWER, Store, hashOfWish, initialState } from "./state";
import { CHART_THEME, MAP_THEME } from "./ui/theme";
import { describeByte } from "./util/scale";
import { Flag } from "./wire/frame";
import type { Kind } from "./wire/picture";

const LINES_HZ = 2;
/** Twice what is shown: a row that is held in its place still has a value when it sank a little. */
const TOP_ROWS = 2 * TOP_SHOWN;
const STATUS_INTERVAL_MS = 250;
/** Ages of single metrics are not in binary frames: asked for while a drawer is open. */
const AGES_INTERVAL_MS = 2_000;
const FORBIDDEN = "This token may not read (403). Sign in with another one";

export interface WallOutside extends Outside {
  fetch(url: string, init?: RequestInit): Promise<Response>;
  /** To the login page. */
  leave(): void;
  setHash(hash: string): void;
}

export class Wall {
  readonly store: Store<State>;
  readonly hosts: Hosts;
  readonly topOrder = new TopOrder();
  readonly #session: Session;
  readonly #connection: Connection;
  readonly #api: Api;
  readonly #missing: Missing;
  readonly #outside: WallOutside;
  readonly #history = new History(SPAN_S * LINES_HZ + 64, LINES.length);
  #feed: LinesFeed | null = null;
  readonly #mapHz: number;
  #map: MapView | null = null;
  #chart: LinesChart | null = null;
  #frame = 0;
  readonly #dirty = { map: false, lines: false };
  #paintAges: number[] = [];
  #paintAgeMs: number | null = null;
  #obstacle: string | null = null;
  #notice: string | null = null;
  #isLeaving = false;
  #pointed: Pointed | null = null;
  #cursor: number | null = null;
  #ages: ReadonlyMap<string, number> = new Map();
  #agesMs = Number.NEGATIVE_INFINITY;
  #ticks = 0;

  constructor(outside: WallOutside, wish: Wish, calm: boolean) {
    this.#outside = outside;
    this.#mapHz = calm ? 1 : 10;
    this.store = new Store<State>(initialState(wish));
    this.#api = new Api(outside.fetch, (status) => this.#denied(status));
    this.#missing = new Missing(() => this.#api.nodes());
    this.hosts = new Hosts(
      (url) => this.#api.hosts(url),
      () => this.#hostsChanged(),
    );
    this.#session = new Session(this.hosts, {
      picture: (kind) => this.#picture(kind),
      backfill: (backfill) => {
        // Of the present, and on its way when the past began.
        if (this.#session.replay === null) this.#feed?.told(backfill);
        this.#request("lines");
      },
      replay: (replay) => this.#replayChanged(replay),
      refused: (why) => {
        this.#notice = `No replay: ${why}`;
        this.#tick();
      },
    });
    this.#connection = new Connection(outside, {
      phase: (phase) => this.#phase(phase),
      welcome: (welcome: Welcome) => this.#welcome(welcome),
      text: (message: ServerMessage) => this.#session.text(message),
      binary: (buffer: ArrayBuffer) => this.#session.binary(buffer),
    });
    this.#session.connection = this.#connection;
    this.#session.want({ kind: "stats", hz: 1 });
    if (wish.metric !== "") this.#watchMetric(wish.metric);
    if (wish.host !== "") this.openHost(wish.host);
  }

  start(hidden: boolean): void {
    setInterval(() => this.#tick(), STATUS_INTERVAL_MS);
    if (!hidden) this.#connection.connect();
  }

  attachMap(canvas: HTMLCanvasElement): void {
    const { theme, group, search } = this.store.get().wish;
    this.#map = new MapView(canvas, MAP_THEME[theme], this.hosts, {
      pointed: (pointed) => this.#point(pointed),
      chosen: (slot) => this.openHost(this.hosts.bySlot[slot]?.name ?? ""),
      dirty: () => this.#request("map"),
    });
    this.#map.group = group;
    this.#map.search = search;
    this.#request("map");
  }

  attachLines(holder: HTMLElement): void {
    this.#chart = new LinesChart(holder, this.#history, (index) => this.#readout(index));
    this.#request("lines");
  }

  setHidden(hidden: boolean): void {
    this.#connection.setHidden(hidden);
    this.#tick();
  }

  togglePause(): void {
    const paused = !this.#connection.paused;
    this.#connection.setPaused(paused);
    this.store.set({ paused });
    this.#tick();
  }

  /** Shows the map and the ranking as they were that long ago, and from there on. */
  rewind(backMs: number, speed: number): void {
    this.#notice = null;
    this.#session.rewind(backMs, speed);
  }

  goLive(): void {
    this.#session.goLive();
  }

  retryNow(): void {
    this.#connection.connect();
  }

  signOut(): void {
    this.#api.signOut().then(
      () => this.#leave(),
      (error: unknown) => {
        this.#notice = error instanceof Error ? error.message : String(error);
        this.#tick();
      },
    );
  }

  change(change: Partial<Wish>): void {
    const before = this.store.get().wish;
    const wish = { ...before, ...change };
    this.store.set({ wish });
    this.#outside.setHash(hashOfWish(wish));
    if (wish.metric !== before.metric) this.#watchMetric(wish.metric);
    if (this.#map) {
      this.#map.group = wish.group;
      this.#map.search = wish.search;
      if (wish.theme !== before.theme) this.#map.setTheme(MAP_THEME[wish.theme]);
      this.store.set({ matches: this.#map.matchCount });
    }
    this.#request("map");
    this.#request("lines");
  }

  /** The hash was changed from outside: a link, or the address bar. */
  follow(wish: Wish): void {
    const { host } = this.store.get().wish;
    this.change({ ...wish, host, metric: wish.metric || this.store.get().wish.metric });
    if (wish.host === host) return;
    if (wish.host === "") this.closeHost();
    else this.openHost(wish.host);
  }

  openFirstMatch(): void {
    const slot = this.#map?.firstMatch ?? -1;
    const host = this.hosts.bySlot[slot];
    if (host) this.openHost(host.name);
  }

  openHost(host: string): void {
    if (host === "") return;
    this.#ages = new Map();
    this.#agesMs = Number.NEGATIVE_INFINITY;
    this.#session.want({ kind: "host", host, hz: LINES_HZ });
    this.store.set({ drawer: { ...EMPTY_DRAWER, host } });
    this.change({ host });
    this.#select();
  }

  closeHost(): void {
    this.#session.drop("host");
    this.store.set({ drawer: null });
    this.change({ host: "" });
    this.#select();
  }

  #watchMetric(metric: string): void {
    this.topOrder.clear();
    this.store.set({ top: [], percentiles: [], hover: null });
    this.#session.want({ kind: "map", metric, hz: this.#mapHz });
    const exprs = LINES.map((fn) => `${fn}(${metric})`);
    this.#feed = new LinesFeed(this.#history, exprs, () => this.#session.renew("lines"));
    this.#feed.asked(performance.now());
    this.#session.want({ kind: "lines", exprs, hz: LINES_HZ, backfill_s: SPAN_S });
    this.#session.want({ kind: "top", metric, n: TOP_ROWS, hz: LINES_HZ });
  }

  #phase(phase: Phase): void {
    if (phase.name === "open") this.#obstacle = null;
    const failed = phase.name === "waiting" && !phase.opened;
    // A paused picture stays: what is in the way is asked for at play.
    if (failed && !this.#connection.paused) this.#probe();
    this.#request("lines");
    this.#tick();
  }

  #probe(): void {
    void this.#api.obstacle().then((obstacle) => {
      if (this.#connection.phase.name === "open") return;
      this.#obstacle = obstacle;
      this.#tick();
    });
  }

  #welcome(welcome: Welcome): void {
    this.store.set({ tokens: welcome.auth === "cookie" });
    this.#feed?.asked(performance.now());
    this.#session.welcome(welcome);
  }

  /** Neither is worth another try: who is not known signs in, who is and may not read is told. */
  #denied(status: DeniedStatus): void {
    if (status === 401) return this.#leave();
    if (this.#isLeaving) return;
    this.store.set({ tokens: true });
    this.#connection.refuse(FORBIDDEN);
  }

  #leave(): void {
    if (this.#isLeaving) return;
    this.#isLeaving = true;
    this.#connection.refuse("Signing in anew");
    this.#outside.leave();
  }

  #picture(kind: Kind): void {
    if (kind === "stats") this.#statsCame();
    if (kind === "lines") this.#linesCame();
    if (kind === "top") this.#topCame();
    if (kind === "host") this.#hostCame();
    this.#request(kind === "map" || kind === "lines" ? kind : null);
  }

  #statsCame(): void {
    const stats = this.#session.picture("stats")?.stats;
    if (!stats) return;
    const metrics = Object.entries(stats.metrics).map(([name, metric]) => {
      return { name, unit: metric.unit, hosts: metric.hosts };
    });
    this.store.set({ counts: stats.hosts, metrics });
    if (this.store.get().wish.metric === "") {
      const first = metrics.find(({ name }) => /^cpu/i.test(name)) ?? metrics[0];
      if (first) this.change({ metric: first.name });
    }
  }

  #linesCame(): void {
    const picture = this.#session.picture("lines");
    if (!picture?.whole) return;
    if (this.#session.replay !== null) this.#feed?.rewound(picture);
    else this.#feed?.came(picture, this.#session.intervalMs("lines"), performance.now());
    if (this.#cursor === null) {
      const percentiles = LINES.map((label, i) => ({ label, value: finite(picture.values.at(i)) }));
      this.store.set({ percentiles });
    }
  }

  #topCame(): void {
    const picture = this.#session.picture("top");
    if (!picture?.whole) return;
    const top = this.topOrder.update(picture.slots, picture.values, performance.now());
    this.store.set({ top });
  }

  #hostCame(): void {
    const picture = this.#session.picture("host");
    const drawer = this.store.get().drawer;
    if (!picture?.info || !drawer || picture.info.host !== drawer.host) return;
    const metrics = picture.info.metrics.map(({ name, unit }, i): DrawerMetric => {
      return { name, unit, value: picture.values.at(i), ageMs: this.#ages.get(name) ?? null };
    });
    const { state, ageMs, intervalMs, info } = picture;
    const known = info.slot !== null;
    const { tags, node = null, cause = null } = info;
    const told = { known, loaded: true, state, ageMs, intervalMs, node, cause, tags, metrics };
    this.store.set({ drawer: { host: drawer.host, ...told } });
  }

  #replayChanged(replay: Replaying | null): void {
    if ((replay === null) !== (this.store.get().replay === null)) {
      // Who was at the top then is not who is now.
      this.topOrder.clear();
      this.#history.clear();
      if (replay === null) {
        this.#feed?.asked(performance.now());
        this.#session.renew("lines");
      }
    }
    this.store.set({ replay });
    this.#request("lines");
    this.#tick();
  }

  #hostsChanged(): void {
    const keys = tagKeys(this.hosts.bySlot);
    const same = keys.join("\n") === this.store.get().tagKeys.join("\n");
    this.store.set({
      hosts: this.hosts.count,
      problem: this.hosts.problem,
      matches: this.#map?.matchCount ?? null,
      ...(same ? {} : { tagKeys: keys }),
    });
    this.#select();
  }

  #select(): void {
    if (!this.#map) return;
    const name = this.store.get().wish.host;
    this.#map.selected = this.hosts.bySlot.find((host) => host?.name === name)?.slot ?? -1;
    this.#request("map");
  }

  #point(pointed: Pointed | null): void {
    this.#pointed = pointed;
    this.#describePointed();
  }

  #describePointed(): void {
    const pointed = this.#pointed;
    const host = pointed === null ? undefined : this.hosts.bySlot[pointed.slot];
    const picture = this.#session.picture("map");
    if (pointed === null || !host || !picture) {
      if (this.store.get().hover !== null) this.store.set({ hover: null });
      return;
    }
    const byte = picture.values.at(pointed.slot);
    const value = describeByte(byte, picture.lo, picture.hi, this.#unit());
    const state = picture.states.at(pointed.slot);
    this.store.set({ hover: { ...pointed, name: host.name, tags: host.tags, value, state } });
  }

  #readout(index: number | null): void {
    this.#cursor = index;
    if (index === null || !this.#chart) {
      if (this.store.get().cursorMs !== null) this.store.set({ cursorMs: null });
      return;
    }
    const { timeMs, values } = this.#chart.valuesAt(index);
    const percentiles = LINES.map((label, i) => ({ label, value: values[i] ?? null }));
    this.store.set({ cursorMs: timeMs, percentiles });
  }

  #unit(): string {
    const { metrics, wish } = this.store.get();
    return metrics.find(({ name }) => name === wish.metric)?.unit ?? "";
  }

  /** One loop for all canvases; without a change it does not run. */
  #request(what: "map" | "lines" | null): void {
    if (what !== null) this.#dirty[what] = true;
    if (this.#frame === 0) this.#frame = requestAnimationFrame(() => this.#paint());
  }

  #paint(): void {
    this.#frame = 0;
    const { wish, scale } = this.store.get();
    if (this.#dirty.map && this.#map) {
      this.#dirty.map = false;
      const picture = this.#session.picture("map");
      this.#map.paint(picture);
      if (picture?.whole && (picture.lo !== scale.lo || picture.hi !== scale.hi)) {
        this.store.set({ scale: { lo: picture.lo, hi: picture.hi } });
      }
    }
    if (this.#dirty.lines && this.#chart) {
      this.#dirty.lines = false;
      const look = { theme: CHART_THEME[wish.theme], utc: wish.utc, unit: this.#unit() };
      const end = this.#session.replay?.timeMs ?? (this.#session.newestFrameMs || Date.now());
      const spanS = this.#chart.paint(look, end / 1000);
      if (spanS !== this.store.get().spanS) this.store.set({ spanS });
    }
    this.#session.acknowledge();
    const age = this.#ageMs();
    if (age !== null) this.#paintAges.push(age);
  }

  #ageMs(): number | null {
    const { newestFrameMs, clockOffsetMs } = this.#session;
    if (newestFrameMs === 0) return null;
    return Math.max(0, Date.now() + clockOffsetMs - newestFrameMs);
  }

  #tick(): void {
    this.#ticks += 1;
    if (this.#ticks % 2 === 0 && this.#paintAges.length > 0) {
      const sorted = this.#paintAges.sort((a, b) => a - b);
      this.#paintAgeMs = sorted[sorted.length >> 1] ?? null;
      this.#paintAges = [];
    }
    const map = this.#session.picture("map");
    const status = describe({
      phase: this.#connection.phase,
      paused: this.#connection.paused,
      now: Date.now(),
      ageMs: this.#ageMs(),
      paintAgeMs: this.#paintAgeMs ?? this.#ageMs(),
      intervalMs: this.#session.intervalMs(map ? "map" : "stats"),
      whole: map?.whole ?? true,
      replay: this.#session.replay !== null,
      obstacle: this.#obstacle,
    });
    const shownMs = this.#session.replay?.timeMs ?? this.#session.newestFrameMs;
    const asOfMs = status.grey && shownMs ? shownMs : null;
    const problem = this.#notice ?? this.hosts.problem ?? this.#session.errorOf("map");
    const before = this.store.get();
    const same = JSON.stringify(status) === JSON.stringify(before.status);
    const flags = this.#flags();
    const isPartial = (flags & Flag.Partial) !== 0;
    const missing = this.#missing.words(isPartial, this.#connection.flows, performance.now());
    this.store.set({ asOfMs, problem, flags, missing, ...(same ? {} : { status }) });
    this.#describePointed();
    this.#askAges();
  }

  /** What the node says of itself. A map of the past says nothing, and an empty wall has no map. */
  #flags(): number {
    const map = this.#session.replay === null ? this.#session.picture("map") : null;
    const picture = map !== null && map.timeMs > 0 ? map : this.#session.picture("stats");
    return picture?.flags ?? 0;
  }

  #askAges(): void {
    const host = this.store.get().drawer?.host;
    const due = performance.now() - this.#agesMs >= AGES_INTERVAL_MS;
    if (!host || !due || !this.#connection.flows) return;
    this.#agesMs = performance.now();
    this.#api.ages(host).then(
      (ages) => {
        if (this.store.get().drawer?.host === host) this.#ages = ages;
      },
      () => {
        this.#ages = new Map();
      },
    );
  }
}

function finite(value: number): number | null {
  return Number.isNaN(value) ? null : value;
}
