// The busiest hosts of the chosen metric.

import type { JSX } from "preact";
import type { Host } from "../live/hosts";
import { css, rampAt } from "../map/palette";
import { useStore } from "../state";
import { formatNumber } from "../util/format";
import type { Props } from "./app";
import { unitOf } from "./toolbar";

/** Shown first where hosts have them; then whatever else there is. */
const TAGS_FIRST = ["dc", "region", "role"];
const TAGS_SHOWN = 2;

export function TopPanel({ wall }: Props): JSX.Element {
  const rows = useStore(wall.store, (s) => s.top);
  const metric = useStore(wall.store, (s) => s.wish.metric);
  const unit = useStore(wall.store, unitOf);
  const { lo, hi } = useStore(wall.store, (s) => s.scale);
  const open = useStore(wall.store, (s) => s.wish.host);
  const full = unit === "%" ? 100 : Math.max(...rows.map(({ value }) => value ?? 0), 0);
  const hold = (held: boolean): void => {
    wall.topOrder.held = held;
  };
  return (
    <section class="panel top" aria-label="Busiest hosts">
      <header>
        <h2>
          Top <b>{metric}</b>
        </h2>
        {unit !== "" && <small>{unit}</small>}
      </header>
      <div class="rows" onPointerEnter={() => hold(true)} onPointerLeave={() => hold(false)}>
        <table>
          <colgroup>
            <col />
            <col class="bars" />
            <col class="numbers" />
            <col class="tags" />
          </colgroup>
          <thead class="sr">
            <tr>
              <th>Host</th>
              <th>Share</th>
              <th>Value</th>
              <th>Tags</th>
            </tr>
          </thead>
          <tbody>
            {rows.map(({ slot, value }) => {
              const host = wall.hosts.bySlot[slot];
              const name = host?.name ?? `#${slot}`;
              return (
                <Row
                  key={slot}
                  name={name}
                  tags={tagsOf(host)}
                  value={value === null ? "–" : formatNumber(value, unit)}
                  colour={css(rampAt(((value ?? lo) - lo) / (hi - lo)))}
                  share={full > 0 && value !== null ? Math.max(0, value / full) : 0}
                  selected={name === open}
                  choose={() => wall.openHost(host?.name ?? "")}
                />
              );
            })}
          </tbody>
        </table>
        {rows.length === 0 && <p class="quiet">No values yet</p>}
      </div>
    </section>
  );
}

interface RowProps {
  readonly name: string;
  readonly tags: string;
  readonly value: string;
  readonly share: number;
  readonly colour: string;
  readonly selected: boolean;
  readonly choose: () => void;
}

function Row({ name, tags, value, share, colour, selected, choose }: RowProps): JSX.Element {
  return (
    <tr class={selected ? "selected" : ""} onClick={choose}>
      <td class="host">
        <button type="button" class="link" title={name}>
          {name}
        </button>
      </td>
      <td class="bar" aria-hidden="true">
        <i style={{ transform: `scaleX(${Math.min(1, share)})`, background: colour }} />
      </td>
      <td class="num">{value}</td>
      <td class="tags">{tags}</td>
    </tr>
  );
}

function tagsOf(host: Host | undefined): string {
  if (!host) return "";
  const { tags } = host;
  const first = TAGS_FIRST.flatMap((key) => tags[key] ?? []);
  const rest = Object.entries(tags).flatMap(([k, v]) => (TAGS_FIRST.includes(k) ? [] : v));
  return [...first, ...rest].slice(0, TAGS_SHOWN).join(" ");
}
