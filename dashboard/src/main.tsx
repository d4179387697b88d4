import { render } from "preact";
import { liveUrl } from "./live/api";
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

function openSocket(): Socket {
  if (typeof WebSocket === "undefined") throw new Error("it has no WebSocket");
  return new WebSocket(liveUrl(location.href), [PROTOCOL]) as unknown as Socket;
}

const outside = {
  open: openSocket,
  random: Math.random,
  fetch: (url: string, init?: RequestInit) => fetch(url, init),
  // With the hash, which the login page hands back: the same view after signing in.
  leave: () => location.assign(`/login${location.hash}`),
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
// Back from the login page to a wall that had given up: who may see it now, the node says.
window.addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});
wall.start(document.hidden);
