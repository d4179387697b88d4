// Back in time, and to the present again.

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { useStore } from "../state";
import { formatClock } from "../util/format";
import type { Props } from "./app";

const MINUTE_MS = 60_000;
const SPANS = [
  [5, "5 min"],
  [15, "15 min"],
  [60, "1 h"],
  [360, "6 h"],
] as const;
const SPEEDS = [1, 10, 60] as const;

export function Rewind({ wall }: Props): JSX.Element {
  const replay = useStore(wall.store, (s) => s.replay);
  const utc = useStore(wall.store, (s) => s.wish.utc);
  const [back, setBack] = useState<number>(15);
  const [speed, setSpeed] = useState<number>(60);
  return (
    <div class="rewind" role="group" aria-label="Rewind">
      {replay !== null && (
        <strong class="badge" data-testid="replay">
          REPLAY {formatClock(replay.timeMs, utc)} · {replay.speed}x
        </strong>
      )}
      {replay === null && (
        <select
          id="back"
          aria-label="How far back"
          value={back}
          onChange={(event) => setBack(Number(event.currentTarget.value))}
        >
          {SPANS.map(([minutes, text]) => (
            <option key={minutes} value={minutes}>
              {text}
            </option>
          ))}
        </select>
      )}
      {replay === null && (
        <select
          id="speed"
          aria-label="Speed"
          value={speed}
          onChange={(event) => setSpeed(Number(event.currentTarget.value))}
        >
          {SPEEDS.map((times) => (
            <option key={times} value={times}>
              {times}x
            </option>
          ))}
        </select>
      )}
      {/* One button, so that the focus stays where it is. */}
      <button
        type="button"
        id="rewind"
        title="Shows the map and the ranking as they were"
        onClick={() => (replay === null ? wall.rewind(back * MINUTE_MS, speed) : wall.goLive())}
      >
        {replay === null ? "↺ Rewind" : "● Live"}
      </button>
    </div>
  );
}
