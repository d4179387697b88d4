// The page: chrome only. What moves ten times a second is on canvases that Preact never touches.

import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { useStore } from "../state";
import type { Wall } from "../wall";
import { Drawer } from "./drawer";
import { Empty } from "./empty";
import { LinesPanel } from "./lines";
import { MapPanel } from "./map";
import { Toolbar } from "./toolbar";
import { TopPanel } from "./top";
import { TopBar } from "./topbar";

export interface Props {
  readonly wall: Wall;
}

export function App({ wall }: Props): JSX.Element {
  const theme = useStore(wall.store, (s) => s.wish.theme);
  const grey = useStore(wall.store, (s) => s.status.grey);
  const nobody = useStore(wall.store, isNobody);
  useEffect(() => {
    document.documentElement.dataset["theme"] = theme;
  }, [theme]);
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => shortcut(wall, event);
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, [wall]);
  return (
    <div class={grey ? "page grey" : "page"}>
      <TopBar wall={wall} />
      <Toolbar wall={wall} />
      <main class="panels">
        <MapPanel wall={wall} />
        <TopPanel wall={wall} />
        <LinesPanel wall={wall} />
        {nobody && <Empty wall={wall} />}
      </main>
      <Drawer wall={wall} />
    </div>
  );
}

/** Known to be empty, not merely not heard of yet. */
function isNobody({ counts, hosts }: { counts: Counts | null; hosts: number }): boolean {
  return counts !== null && counts.ok + counts.stale + counts.down === 0 && hosts === 0;
}

interface Counts {
  readonly ok: number;
  readonly stale: number;
  readonly down: number;
}

function shortcut(wall: Wall, event: KeyboardEvent): void {
  if (event.key === "Escape" && wall.store.get().drawer !== null) {
    event.preventDefault();
    return wall.closeHost();
  }
  if (event.ctrlKey || event.metaKey || event.altKey || takesKey(event)) return;
  const { theme, utc } = wall.store.get().wish;
  const actions: Record<string, () => void> = {
    " ": () => wall.togglePause(),
    "/": () => document.getElementById("search")?.focus(),
    t: () => wall.change({ theme: theme === "dark" ? "light" : "dark" }),
    u: () => wall.change({ utc: !utc }),
  };
  const action = actions[event.key];
  if (action === undefined) return;
  event.preventDefault();
  action();
}

/** Space on a button is a click, a letter in a field is text. */
function takesKey({ key, target }: KeyboardEvent): boolean {
  if (!(target instanceof HTMLElement)) return false;
  const takers = key === " " ? "input, select, textarea, button, a" : "input, select, textarea";
  return target.closest(takers) !== null;
}
