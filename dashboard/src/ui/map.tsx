// The host map's panel and the card of the host that is pointed at.

import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { Hover } from "../state";
import { useStore } from "../state";
import { formatCount } from "../util/format";
import type { Props } from "./app";
import { STATE_WORDS } from "./words";

export function MapPanel({ wall }: Props): JSX.Element {
  const canvas = useRef<HTMLCanvasElement>(null);
  const hosts = useStore(wall.store, (s) => s.hosts);
  const metric = useStore(wall.store, (s) => s.wish.metric);
  useEffect(() => {
    if (canvas.current) wall.attachMap(canvas.current);
  }, [wall]);
  return (
    <section class="panel map" aria-label="Host map">
      <canvas
        ref={canvas}
        id="map"
        tabIndex={0}
        role="application"
        aria-label={`Map of ${formatCount(hosts)} hosts by ${metric}: arrows move, Enter opens`}
      />
      <HoverCard wall={wall} />
    </section>
  );
}

const CARD_WIDTH = 230;
const CARD_HEIGHT = 120;

function HoverCard({ wall }: Props): JSX.Element | null {
  const hover = useStore(wall.store, (s) => s.hover);
  const ref = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (ref.current && hover) place(ref.current, hover);
  }, [hover]);
  if (hover === null) return null;
  const tags = Object.entries(hover.tags);
  return (
    <div class="card" ref={ref} role="status" data-testid="hover">
      <strong>{hover.name}</strong>
      <div class="value">
        {hover.value}
        <span class={`state s${hover.state}`}>{STATE_WORDS[hover.state]}</span>
      </div>
      {tags.length > 0 && (
        <div class="tags">
          {tags.map(([key, value]) => (
            <span class="tag" key={key}>
              {key}={value}
            </span>
          ))}
        </div>
      )}
    </div>
  );
}

/** Below the cell, or above it where the map ends. */
function place(card: HTMLElement, hover: Hover): void {
  const room = card.parentElement;
  if (room === null) return;
  const left = Math.max(4, Math.min(hover.x + 8, room.clientWidth - CARD_WIDTH - 4));
  const below = hover.y + 10;
  const fits = below + CARD_HEIGHT < room.clientHeight;
  card.style.left = `${left}px`;
  card.style.top = fits ? `${below}px` : "auto";
  card.style.bottom = fits ? "auto" : `${Math.max(4, room.clientHeight - hover.y + 24)}px`;
}
