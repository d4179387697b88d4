// The fleet's percentiles over the last ten minutes, with a readout instead of a legend box.

import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { useStore } from "../state";
import { formatClock, formatValue } from "../util/format";
import type { Props } from "./app";
import { unitOf } from "./toolbar";

export function LinesPanel({ wall }: Props): JSX.Element {
  const holder = useRef<HTMLDivElement>(null);
  const metric = useStore(wall.store, (s) => s.wish.metric);
  const spanS = useStore(wall.store, (s) => s.spanS);
  useEffect(() => {
    if (holder.current) wall.attachLines(holder.current);
  }, [wall]);
  return (
    <section class="panel lines" aria-label="Fleet percentiles">
      <header>
        <h2>
          Fleet <b>{metric}</b> <small>last {spanS / 60} min</small>
        </h2>
        <Readout wall={wall} />
      </header>
      <div class="plot" ref={holder} />
    </section>
  );
}

function Readout({ wall }: Props): JSX.Element {
  const percentiles = useStore(wall.store, (s) => s.percentiles);
  const at = useStore(wall.store, (s) => s.cursorMs ?? s.asOfMs);
  const utc = useStore(wall.store, (s) => s.wish.utc);
  const unit = useStore(wall.store, unitOf);
  return (
    <dl class="readout" data-testid="readout">
      <div class="when">{at === null ? "now" : formatClock(at, utc)}</div>
      {percentiles.map(({ label, value }) => (
        <div key={label} class={label}>
          <dt>{label}</dt>
          <dd>{formatValue(value, unit)}</dd>
        </div>
      ))}
    </dl>
  );
}
