// What the map shows: metric, groups, search, and the legend to read it by.

import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { rampAt } from "../map/palette";
import type { State } from "../state";
import { useStore } from "../state";
import { formatCount, formatTick } from "../util/format";
import type { Props } from "./app";
import { Rewind } from "./rewind";

export function Toolbar({ wall }: Props): JSX.Element {
  return (
    <section class="toolbar" aria-label="View">
      <MetricSelect wall={wall} />
      <GroupSelect wall={wall} />
      <Search wall={wall} />
      <Rewind wall={wall} />
      <Legend wall={wall} />
    </section>
  );
}

function MetricSelect({ wall }: Props): JSX.Element {
  const metrics = useStore(wall.store, (s) => s.metrics);
  const metric = useStore(wall.store, (s) => s.wish.metric);
  const names = metrics.map(({ name }) => name);
  if (metric !== "" && !names.includes(metric)) names.unshift(metric);
  return (
    <label class="field">
      <span>Metric</span>
      <select
        id="metric"
        value={metric}
        disabled={names.length === 0}
        onChange={(event) => wall.change({ metric: event.currentTarget.value })}
      >
        {names.length === 0 && <option value="">none yet</option>}
        {names.map((name) => (
          <option key={name} value={name}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
}

function GroupSelect({ wall }: Props): JSX.Element {
  const keys = useStore(wall.store, (s) => s.tagKeys);
  const group = useStore(wall.store, (s) => s.wish.group);
  const offered = group === "" || keys.includes(group) ? keys : [group, ...keys];
  return (
    <label class="field">
      <span>Group by</span>
      <select
        id="group"
        value={group}
        onChange={(event) => wall.change({ group: event.currentTarget.value })}
      >
        <option value="">none</option>
        {offered.map((key) => (
          <option key={key} value={key}>
            {key}
          </option>
        ))}
      </select>
    </label>
  );
}

function Search({ wall }: Props): JSX.Element {
  const search = useStore(wall.store, (s) => s.wish.search);
  const matches = useStore(wall.store, (s) => s.matches);
  return (
    <div class="field search">
      <input
        id="search"
        type="search"
        value={search}
        placeholder="Search hosts: web  role=db  -fra"
        aria-label="Search hosts by name or tag"
        autocomplete="off"
        spellcheck={false}
        onInput={(event) => wall.change({ search: event.currentTarget.value })}
        onKeyDown={(event) => {
          if (event.key === "Enter") wall.openFirstMatch();
          if (event.key === "Escape") event.currentTarget.blur();
        }}
      />
      {matches !== null && (
        <output class="matches">
          {formatCount(matches)} {matches === 1 ? "host" : "hosts"}
        </output>
      )}
    </div>
  );
}

function Legend({ wall }: Props): JSX.Element {
  const scale = useStore(wall.store, (s) => s.scale);
  const unit = useStore(wall.store, unitOf);
  return (
    <div class="legend">
      <span class="num">{formatTick(scale.lo, unit)}</span>
      <Ramp />
      <span class="num">
        {formatTick(scale.hi, unit)} {unit}
      </span>
      <span class="key">
        <i class="swatch stale" />
        stale
      </span>
      <span class="key">
        <i class="swatch down" aria-hidden="true">
          ✕
        </i>
        down
      </span>
      <span class="key">
        <i class="swatch none" />
        no value
      </span>
    </div>
  );
}

/** The same colours as the map's, drawn once. */
function Ramp(): JSX.Element {
  const ref = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const context = ref.current?.getContext("2d");
    if (!context) return;
    const image = context.createImageData(256, 1);
    for (let i = 0; i < 256; i++) image.data.set([...rampAt(i / 255), 255], i * 4);
    context.putImageData(image, 0, 0);
  }, []);
  return (
    <canvas class="ramp" width={256} height={1} ref={ref} role="img" aria-label="low to high" />
  );
}

export function unitOf(state: State): string {
  return state.metrics.find(({ name }) => name === state.wish.metric)?.unit ?? "";
}
