// Which hosts belong together, and which a search means. Both on the client: it knows every host,
// and so nearly every viewer shares one view of the server's.

import type { Host } from "../live/hosts";
import type { Members } from "./layout";

/** A tag with more values than this is no grouping; the rest share one group. */
const GROUPS_MAX = 48;
export const UNTAGGED = "untagged";

export function groupHosts(hosts: readonly (Host | undefined)[], tag: string): Members[] {
  const byValue = new Map<string, number[]>();
  for (const host of hosts) {
    if (!host) continue;
    const value = tag === "" ? "" : (host.tags[tag] ?? UNTAGGED);
    const slots = byValue.get(value);
    if (slots) slots.push(host.slot);
    else byValue.set(value, [host.slot]);
  }
  const groups = [...byValue].map(([title, slots]) => ({ title, slots }));
  return groups.length > GROUPS_MAX ? fold(groups) : groups.sort(byTitle);
}

function fold(groups: Members[]): Members[] {
  const bySize = groups.sort((a, b) => b.slots.length - a.slots.length || byTitle(a, b));
  const kept = bySize.slice(0, GROUPS_MAX - 1).sort(byTitle);
  const rest = bySize.slice(GROUPS_MAX - 1);
  const slots = rest.flatMap((group) => group.slots).sort((a, b) => a - b);
  return [...kept, { title: `${rest.length} others`, slots }];
}

const order = new Intl.Collator("en", { numeric: true });

function byTitle(a: Members, b: Members): number {
  if (a.title === UNTAGGED || b.title === UNTAGGED) return a.title === UNTAGGED ? 1 : -1;
  return order.compare(a.title, b.title);
}

/** Tags that most hosts have first: what the group-by selector offers. */
export function tagKeys(hosts: readonly (Host | undefined)[]): string[] {
  const counts = new Map<string, number>();
  for (const host of hosts) {
    if (!host) continue;
    for (const key of Object.keys(host.tags)) counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return [...counts].sort((a, b) => b[1] - a[1] || order.compare(a[0], b[0])).map(([key]) => key);
}

export type Match = (host: Host) => boolean;

/** Words that must all match: part of a name or tag value, `tag=value`, or `-word` for not. */
export function parseSearch(text: string): Match | null {
  const words = text.toLowerCase().split(/\s+/).filter((word) => word !== "" && word !== "-");
  if (words.length === 0) return null;
  const matches = words.map(parseWord);
  return (host) => matches.every((match) => match(host));
}

function parseWord(word: string): Match {
  if (word.startsWith("-")) {
    const match = parseWord(word.slice(1));
    return (host) => !match(host);
  }
  const at = word.indexOf("=");
  if (at > 0) {
    const key = word.slice(0, at);
    const value = word.slice(at + 1);
    return (host) =>
      Object.entries(host.tags).some(
        ([k, v]) => k.toLowerCase() === key && v.toLowerCase().startsWith(value),
      );
  }
  return (host) =>
    host.name.toLowerCase().includes(word) ||
    Object.values(host.tags).some((value) => value.toLowerCase().includes(word));
}
