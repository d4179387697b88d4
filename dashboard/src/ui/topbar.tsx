// Who we are, whether this is now, how many hosts are well.

import type { JSX } from "preact";
import type { Status } from "../live/status";
import { useStore } from "../state";
import { formatClock, formatCount } from "../util/format";
import { Flag } from "../wire/frame";
import type { Props } from "./app";

const MARKS = { live: "●", late: "◐", lost: "○", still: "Ⅱ" } as const;

export function TopBar({ wall }: Props): JSX.Element {
  return (
    <header class="topbar">
      <h1>
        <svg class="mark" viewBox="0 0 16 16" aria-hidden="true">
          <path class="mark-low" d="M2 10h3v4H2z" />
          <path class="mark-mid" d="M6.5 6h3v8h-3z" />
          <path class="mark-high" d="M11 2h3v12h-3z" />
        </svg>
        Tidewall
      </h1>
      <Connection wall={wall} />
      <Counts wall={wall} />
      <Controls wall={wall} />
      <SignOut wall={wall} />
    </header>
  );
}

function Connection({ wall }: Props): JSX.Element {
  const status = useStore(wall.store, (s) => s.status);
  const asOfMs = useStore(wall.store, (s) => s.asOfMs);
  const utc = useStore(wall.store, (s) => s.wish.utc);
  const notes = useStore(wall.store, (s) => notesOf(s.flags, s.problem, s.missing));
  return (
    <div class={`connection ${status.tone}`} data-testid="status" title={status.detail}>
      <span class="dot" aria-hidden="true">
        {MARKS[status.tone]}
      </span>
      <span class="words">{status.text}</span>
      {status.retry !== null && (
        <button type="button" class="small" onClick={() => wall.retryNow()}>
          {status.retry}
        </button>
      )}
      {asOfMs !== null && (
        <span class="asof" data-testid="asof">
          as of {formatClock(asOfMs, utc)} {utc ? "UTC" : ""}
        </span>
      )}
      {status.tone === "lost" && <span class="why">{status.detail}</span>}
      {notes !== "" && (
        <span class="note" title={notes} data-testid="note">
          {notes}
        </span>
      )}
      <span class="sr" role="status" aria-live="polite">
        {spoken(status)}
      </span>
    </div>
  );
}

const SPOKEN = { live: "Live", late: "Delayed" } as const;

/** Once a change: words with running seconds would never stop. */
function spoken({ tone, text, retry }: Status): string {
  if (tone === "still") return text;
  if (tone !== "lost") return SPOKEN[tone];
  return retry === "now" ? "Connection lost, reconnecting" : text;
}

function notesOf(flags: number, problem: string | null, missing: string | null): string {
  const notes: string[] = [];
  if (problem !== null) notes.push(problem);
  if (missing !== null) notes.push(missing);
  if (flags & Flag.Degraded) notes.push("history is behind");
  if (flags & Flag.RateLowered) notes.push("rate lowered: this page is slow");
  return notes.join(" · ");
}

function Counts({ wall }: Props): JSX.Element | null {
  const counts = useStore(wall.store, (s) => s.counts);
  if (counts === null) return <div class="counts" />;
  return (
    <dl class="counts" aria-label="Hosts by state">
      <Count label="ok" mark="■" count={counts.ok} />
      <Count label="stale" mark="▨" count={counts.stale} />
      <Count label="down" mark="✕" count={counts.down} />
    </dl>
  );
}

interface CountProps {
  readonly label: string;
  readonly mark: string;
  readonly count: number;
}

function Count({ label, mark, count }: CountProps): JSX.Element {
  const zero = count === 0 ? "zero" : "";
  return (
    <div class={`count ${label} ${zero}`} data-testid={`count-${label}`}>
      <span class="shape" aria-hidden="true">
        {mark}
      </span>
      <dd>{formatCount(count)}</dd>
      <dt>{label}</dt>
    </div>
  );
}

function Controls({ wall }: Props): JSX.Element {
  const utc = useStore(wall.store, (s) => s.wish.utc);
  const theme = useStore(wall.store, (s) => s.wish.theme);
  const paused = useStore(wall.store, (s) => s.paused);
  const other = theme === "dark" ? "light" : "dark";
  return (
    <div class="controls">
      <div class="switch" role="group" aria-label="Time zone">
        <button type="button" aria-pressed={!utc} onClick={() => wall.change({ utc: false })}>
          Local
        </button>
        <button type="button" aria-pressed={utc} onClick={() => wall.change({ utc: true })}>
          UTC
        </button>
      </div>
      <button
        type="button"
        class="icon"
        aria-label={`Use the ${other} theme`}
        title={`${other} theme (t)`}
        onClick={() => wall.change({ theme: other })}
      >
        {theme === "dark" ? "☀" : "☾"}
      </button>
      <button
        type="button"
        class="pause"
        aria-pressed={paused}
        title="Space"
        onClick={() => wall.togglePause()}
      >
        {paused ? "▶ Play" : "Ⅱ Pause"}
      </button>
    </div>
  );
}

function SignOut({ wall }: Props): JSX.Element | null {
  const tokens = useStore(wall.store, (s) => s.tokens);
  if (!tokens) return null;
  return (
    <button type="button" class="leave" onClick={() => wall.signOut()}>
      Sign out
    </button>
  );
}
