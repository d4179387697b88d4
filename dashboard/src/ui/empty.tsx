// Before the first host: how to get one.

import type { JSX } from "preact";
import { useRef, useState } from "preact/hooks";
import { useStore } from "../state";
import type { Props } from "./app";

export function Empty({ wall }: Props): JSX.Element {
  const tokens = useStore(wall.store, (s) => s.tokens);
  const { origin } = location;
  const header = tokens ? `-H "Authorization: Bearer $TOKEN" ` : "";
  const flag = tokens ? ` --token "$TOKEN"` : "";
  const curl =
    `curl ${header}${origin}/api/metrics ` +
    `-d '{"host":"web-1","tags":{"role":"web"},"metrics":{"cpu":53.2,"memory":41}}'`;
  return (
    <section class="empty" data-testid="empty">
      <h2>Nothing is pushing yet</h2>
      <p>One line makes a host appear here:</p>
      <Line text={curl} />
      <p>This machine’s own CPU, memory, load, disk and network, every second:</p>
      <Line text={`tidewall agent --to ${origin}${flag}`} />
      {tokens && <p>TOKEN stands for a token with the scope ingest.</p>}
    </section>
  );
}

function Line({ text }: { readonly text: string }): JSX.Element {
  const code = useRef<HTMLElement>(null);
  const [label, setLabel] = useState("Copy");
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(text);
      setLabel("Copied");
    } catch {
      // Plain HTTP from another machine has no clipboard: the text is selected instead.
      if (code.current) getSelection()?.selectAllChildren(code.current);
      setLabel("Selected");
    }
  };
  return (
    <div class="line">
      <code ref={code}>{text}</code>
      <button type="button" onClick={() => void copy()}>
        {label}
      </button>
    </div>
  );
}
