import { describe, expect, it } from "vitest";
import { Store, hashOfWish, wishOfHash } from "./state";

describe("wish", () => {
  it("goes into the hash and comes back", () => {
    const wish = {
      metric: "disk.used{device=sda}",
      group: "dc",
      search: "role=web -fra",
      host: "web & 1#",
      theme: "light",
      utc: true,
    } as const;
    expect(wishOfHash(hashOfWish(wish))).toEqual(wish);
  });

  it("is short when nothing was chosen, and forgiving", () => {
    expect(hashOfWish(wishOfHash(""))).toBe("");
    expect(wishOfHash("#theme=pink&tz=moon&unknown=1").theme).toBe("dark");
  });
});

describe("store", () => {
  it("tells its listeners until they leave", () => {
    const store = new Store({ a: 1, b: 2 });
    const seen: number[] = [];
    const leave = store.subscribe(() => seen.push(store.get().a));
    store.set({ a: 3 });
    leave();
    store.set({ a: 4 });
    expect(seen).toEqual([3]);
    expect(store.get()).toEqual({ a: 4, b: 2 });
  });
});
