// What the chrome shows, in one store. Canvases do not read from here: they have the pictures.

import { useEffect, useState } from "preact/hooks";
import type { Replaying } from "./live/session";
import type { Status } from "./live/status";
import type { TopRow } from "./live/top";

export type Theme = "dark" | "light";

export interface Metric {
  readonly name: string;
  readonly unit: string;
  readonly hosts: number;
}

export interface Percentile {
  readonly label: string;
  readonly value: number | null;
}

export interface DrawerMetric {
  readonly name: string;
  readonly unit: string;
  readonly value: number;
  /** null: not known (yet). */
  readonly ageMs: number | null;
}

export interface Drawer {
  readonly host: string;
  readonly known: boolean;
  readonly loaded: boolean;
  readonly state: number;
  readonly ageMs: number;
  readonly intervalMs: number;
  /** The node that heard it last; null: this page's own. */
  readonly node: string | null;
  /** Why nobody knows its state; null: somebody does. */
  readonly cause: string | null;
  readonly tags: Readonly<Record<string, string>>;
  readonly metrics: readonly DrawerMetric[];
}

export interface Hover {
  readonly slot: number;
  /** Top left of the cell, CSS pixels in the map. */
  readonly x: number;
  readonly y: number;
  readonly name: string;
  readonly tags: Readonly<Record<string, string>>;
  readonly value: string;
  readonly state: number;
}

export interface State {
  readonly status: Status;
  /** Of when the picture is, while it is not live. */
  readonly asOfMs: number | null;
  readonly flags: number;
  /** Which nodes are missing, in words; null: none. */
  readonly missing: string | null;
  readonly counts: { readonly ok: number; readonly stale: number; readonly down: number } | null;
  readonly metrics: readonly Metric[];
  readonly tagKeys: readonly string[];
  readonly scale: { readonly lo: number; readonly hi: number };
  readonly percentiles: readonly Percentile[];
  /** Time under the chart's cursor; null: the newest. */
  readonly cursorMs: number | null;
  readonly spanS: number;
  readonly top: readonly TopRow[];
  readonly hover: Hover | null;
  readonly drawer: Drawer | null;
  readonly matches: number | null;
  readonly hosts: number;
  readonly problem: string | null;
  readonly paused: boolean;
  /** Where in the past the map and the ranking are; null: in the present. */
  readonly replay: Replaying | null;
  /** The node wants tokens. */
  readonly tokens: boolean;
  readonly wish: Wish;
}

/** What the user chose: lives in the URL's hash, so that a link shows the same wall. */
export interface Wish {
  readonly metric: string;
  readonly group: string;
  readonly search: string;
  readonly host: string;
  readonly theme: Theme;
  readonly utc: boolean;
}

export function wishOfHash(hash: string): Wish {
  const params = new URLSearchParams(hash.replace(/^#/, ""));
  return {
    metric: params.get("metric") ?? "",
    group: params.get("group") ?? "",
    search: params.get("q") ?? "",
    host: params.get("host") ?? "",
    theme: params.get("theme") === "light" ? "light" : "dark",
    utc: params.get("tz") === "utc",
  };
}

export function hashOfWish(wish: Wish): string {
  const params = new URLSearchParams();
  if (wish.metric !== "") params.set("metric", wish.metric);
  if (wish.group !== "") params.set("group", wish.group);
  if (wish.search !== "") params.set("q", wish.search);
  if (wish.host !== "") params.set("host", wish.host);
  if (wish.theme !== "dark") params.set("theme", wish.theme);
  if (wish.utc) params.set("tz", "utc");
  const text = params.toString();
  return text === "" ? "" : `#${text}`;
}

export const EMPTY_DRAWER: Omit<Drawer, "host"> = {
  known: true,
  loaded: false,
  state: 0,
  ageMs: 0,
  intervalMs: 0,
  node: null,
  cause: null,
  tags: {},
  metrics: [],
};

export function initialState(wish: Wish): State {
  return {
    status: {
      tone: "lost",
      text: "Connecting",
      detail: "Waiting for the server",
      grey: true,
      retry: null,
    },
    asOfMs: null,
    flags: 0,
    missing: null,
    counts: null,
    metrics: [],
    tagKeys: [],
    scale: { lo: 0, hi: 100 },
    percentiles: [],
    cursorMs: null,
    spanS: 60,
    top: [],
    hover: null,
    drawer: null,
    matches: null,
    hosts: 0,
    problem: null,
    paused: false,
    replay: null,
    tokens: false,
    wish,
  };
}

export class Store<T extends object> {
  #value: T;
  readonly #listeners = new Set<() => void>();

  constructor(value: T) {
    this.#value = value;
  }

  get(): T {
    return this.#value;
  }

  set(change: Partial<T>): void {
    this.#value = { ...this.#value, ...change };
    for (const listener of [...this.#listeners]) listener();
  }

  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

/** Renders again only when the selected part is another object or value. */
export function useStore<T extends object, P>(store: Store<T>, select: (value: T) => P): P {
  const [part, setPart] = useState(() => select(store.get()));
  useEffect(() => {
    const update = (): void => setPart(() => select(store.get()));
    update();
    return store.subscribe(update);
  }, [store]);
  return part;
}
