import { describe, expect, it } from "vitest";
import type { Host } from "../live/hosts";
import { groupHosts, parseSearch, tagKeys } from "./groups";

const HOSTS: (Host | undefined)[] = [
  { slot: 0, name: "web-10", tags: { dc: "fra", role: "web" } },
  undefined,
  { slot: 2, name: "DB-1", tags: { dc: "iad", role: "db" } },
  { slot: 3, name: "lonely", tags: {} },
  { slot: 4, name: "web-2", tags: { dc: "fra" } },
];

describe("groups", () => {
  it("keeps slot order, sorts titles, and puts the untagged last", () => {
    expect(groupHosts(HOSTS, "dc")).toEqual([
      { title: "fra", slots: [0, 4] },
      { title: "iad", slots: [2] },
      { title: "untagged", slots: [3] },
    ]);
    expect(groupHosts(HOSTS, "")).toEqual([{ title: "", slots: [0, 2, 3, 4] }]);
  });

  it("folds what is too many to read", () => {
    const hosts = Array.from({ length: 100 }, (_, slot) => {
      return { slot, name: `h${slot}`, tags: { rack: `r${slot % 90}` } };
    });
    const groups = groupHosts(hosts, "rack");
    expect(groups).toHaveLength(48);
    expect(groups[47]?.title).toBe("43 others");
    expect(groups.flatMap((group) => group.slots)).toHaveLength(100);
  });

  it("offers the tags that most hosts have first", () => {
    expect(tagKeys(HOSTS)).toEqual(["dc", "role"]);
  });
});

describe("search", () => {
  const cases: [string, string[]][] = [
    ["web", ["web-10", "web-2"]],
    ["WEB-1", ["web-10"]],
    ["db", ["DB-1"]],
    ["dc=fra", ["web-10", "web-2"]],
    ["dc=fra role=web", ["web-10"]],
    ["-fra", ["DB-1", "lonely"]],
    ["-dc=iad web", ["web-10", "web-2"]],
    ["rack=1", []],
  ];
  for (const [text, expected] of cases) {
    it(text, () => {
      const match = parseSearch(text);
      const names = HOSTS.filter((host) => host && match?.(host)).map((host) => host?.name);
      expect(names).toEqual(expected);
    });
  }

  it("is none when there is nothing to look for", () => {
    expect([parseSearch(""), parseSearch("  - ")]).toEqual([null, null]);
  });
});
