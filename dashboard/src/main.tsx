import { render } from "preact";
import type { HostTable } from "./live/hosts";
import type { Socket } from "./live/connection";
import { PROTOCOL } from "./live/connection";
import { wishOfHash } from "./state";
import "./style/base.css";
import "./style/chrome.css";
import "./style/panels.css";
import "./style/overlays.css";
import "./style/narrow.css";
import { App } from "./ui/app";
import { Wall } from "./wall";

function liveUrl(): string {
  const url = new URL("/api/live", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

function openSocket(): Socket {
  if (typeof WebSocket === "undefined") throw new Error("it has no WebSocket");
  return new WebSocket(liveUrl(), [PROTOCOL]) as unknown as Socket;
}

async function fetchTable(url: string): Promise<HostTable> {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`Host names could not be loaded (${answer.status})`);
  return (await answer.json()) as HostTable;
}

interface HostAnswer {
  readonly host?: { readonly metrics?: Readonly<Record<string, { readonly age_ms?: number }>> };
}

async function fetchAges(host: string): Promise<ReadonlyMap<string, number>> {
  const answer = await fetch(`/api/snapshot?kind=host&host=${encodeURIComponent(host)}`);
  if (!answer.ok) throw new Error(String(answer.status));
  const { host: found } = (await answer.json()) as HostAnswer;
  const ages = new Map<string, number>();
  for (const [name, { age_ms }] of Object.entries(found?.metrics ?? {})) {
    if (age_ms !== undefined) ages.set(name, age_ms);
  }
  return ages;
}

/** Only the status counts; the body is not waited for. */
async function probe(): Promise<{ status: number }> {
  const stop = new AbortController();
  const { status } = await fetch("/api/snapshot", { cache: "no-store", signal: stop.signal });
  stop.abort();
  return { status };
}

const outside = {
  open: openSocket,
  random: Math.random,
  fetchTable,
  fetchAges,
  probe,
  setHash: (hash: string) => {
    history.replaceState(null, "", hash === "" ? location.pathname + location.search : hash);
  },
};

const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
const wall = new Wall(outside, wishOfHash(location.hash), calm);
const root = document.getElementById("app");
if (root === null) throw new Error("index.html has no #app");
render(<App wall={wall} />, root);

document.addEventListener("visibilitychange", () => wall.setHidden(document.hidden));
window.addEventListener("hashchange", () => wall.follow(wishOfHash(location.hash)));
wall.start(document.hidden);
