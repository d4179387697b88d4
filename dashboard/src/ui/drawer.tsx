// One host, all its metrics: opened from the map, the table or the search box.

import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { Drawer as Shown, DrawerMetric } from "../state";
import { useStore } from "../state";
import { formatAge, formatNumber } from "../util/format";
import type { Props } from "./app";
import { STATE_WORDS, heardWords } from "./words";

export function Drawer({ wall }: Props): JSX.Element | null {
  const drawer = useStore(wall.store, (s) => s.drawer);
  const close = useRef<HTMLButtonElement>(null);
  const host = drawer?.host;
  useEffect(() => {
    if (host === undefined) return;
    const before = document.activeElement;
    close.current?.focus({ preventScroll: true });
    return () => {
      if (before instanceof HTMLElement) before.focus({ preventScroll: true });
    };
  }, [host === undefined]);
  if (drawer === null) return null;
  return (
    <aside class="drawer" role="dialog" aria-label={`Host ${drawer.host}`} data-testid="drawer">
      <header>
        <h2 title={drawer.host}>{drawer.host}</h2>
        <button type="button" ref={close} aria-label="Close" onClick={() => wall.closeHost()}>
          Esc ✕
        </button>
      </header>
      <Body drawer={drawer} choose={(metric) => wall.change({ metric })} />
    </aside>
  );
}

interface BodyProps {
  readonly drawer: Shown;
  readonly choose: (metric: string) => void;
}

function Body({ drawer, choose }: BodyProps): JSX.Element {
  if (!drawer.loaded) return <p class="quiet">Waiting for the first frame of this host</p>;
  if (!drawer.known) return <p class="quiet">Nothing has come from this host yet</p>;
  return (
    <>
      <Facts drawer={drawer} />
      <div class="rows">
        <table>
          <colgroup>
            <col />
            <col class="bars" />
            <col class="numbers" />
            <col class="units" />
            <col class="numbers" />
          </colgroup>
          <thead>
            <tr>
              <th>Metric</th>
              <th />
              <th class="num">Value</th>
              <th>Unit</th>
              <th class="num">Age</th>
            </tr>
          </thead>
          <tbody>
            {drawer.metrics.map((metric) => (
              <Metric key={metric.name} metric={metric} choose={choose} />
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}

function Facts({ drawer }: { readonly drawer: Shown }): JSX.Element {
  return (
    <div class="facts">
      <p>
        <span class={`state s${drawer.state}`}>{STATE_WORDS[drawer.state]}</span>
        {heardWords(drawer)}
      </p>
      {drawer.cause !== null && <p class="cause">{drawer.cause}: its state is not known</p>}
      <p class="tags">
        {Object.entries(drawer.tags).map(([key, value]) => (
          <span class="tag" key={key}>
            {key}={value}
          </span>
        ))}
      </p>
    </div>
  );
}

interface MetricProps {
  readonly metric: DrawerMetric;
  readonly choose: (metric: string) => void;
}

function Metric({ metric, choose }: MetricProps): JSX.Element {
  const { name, unit, value, ageMs } = metric;
  const share = unit === "%" && value > 0 ? Math.min(1, value / 100) : 0;
  return (
    <tr>
      <td class="host">
        <button
          type="button"
          class="link"
          title={`Show ${name} on the map`}
          onClick={() => choose(name)}
        >
          {name}
        </button>
      </td>
      <td class="bar" aria-hidden="true">
        {unit === "%" && <i style={{ transform: `scaleX(${share})` }} />}
      </td>
      <td class="num">{formatNumber(value, unit)}</td>
      <td class="unit">{unit}</td>
      <td class="num age">{ageMs === null ? "–" : formatAge(ageMs)}</td>
    </tr>
  );
}
