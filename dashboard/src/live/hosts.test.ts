import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Denied } from "./api";
import type { HostTable } from "./hosts";
import { Hosts } from "./hosts";
import type { HostRow } from "./messages";

const WEB: HostRow = [0, "web-1", { dc: "fra" }];
const DB: HostRow = [2, "db-1", {}];

class Rig {
  readonly urls: string[] = [];
  readonly #answers: { give: (table: HostTable) => void; fail: (error: Error) => void }[] = [];
  readonly hosts = new Hosts(
    (url) => {
      this.urls.push(url);
      return new Promise((give, fail) => this.#answers.push({ give, fail }));
    },
    () => undefined,
  );

  async give(epoch: number, ...hosts: HostRow[]): Promise<void> {
    this.#answers.shift()?.give({ epoch, hosts });
    await vi.advanceTimersByTimeAsync(0);
  }

  async fail(error = new Error("503")): Promise<void> {
    this.#answers.shift()?.fail(error);
    await vi.advanceTimersByTimeAsync(0);
  }

  announce(epoch: number): void {
    this.hosts.announced({ op: "hosts", epoch, url: `/api/hosts?epoch=${epoch}` });
  }

  patch(from: number, to: number, set: HostRow[], del: number[] = []): void {
    this.hosts.patch({ op: "hosts_patch", from, to, set, del });
  }

  get names(): (string | undefined)[] {
    return this.hosts.bySlot.map((host) => host?.name);
  }
}

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

describe("hosts", () => {
  it("fetches what was announced and applies patches that fit", async () => {
    const rig = new Rig();
    rig.announce(12);
    await rig.give(12, WEB, DB);
    rig.patch(12, 13, [[1, "web-2", {}]], [2]);
    expect(rig.names).toEqual(["web-1", "web-2", undefined]);
    expect([rig.hosts.epoch, rig.hosts.count]).toEqual([13, 2]);
    expect(rig.urls).toEqual(["/api/hosts?epoch=12"]);
  });

  it("keeps patches that come during the fetch, and drops those it holds already", async () => {
    const rig = new Rig();
    rig.announce(12);
    rig.patch(12, 13, [[1, "old-2", {}]]);
    rig.patch(13, 14, [[3, "web-3", {}]]);
    await rig.give(13, WEB, [1, "web-2", {}]);
    expect(rig.names).toEqual(["web-1", "web-2", undefined, "web-3"]);
    expect(rig.hosts.epoch).toBe(14);
  });

  it("fetches again when a patch was missed", async () => {
    const rig = new Rig();
    rig.announce(12);
    await rig.give(12, WEB);
    rig.patch(14, 15, [DB]);
    expect(rig.urls).toHaveLength(2);
    await rig.give(15, WEB, DB);
    expect([rig.hosts.epoch, rig.hosts.count]).toEqual([15, 2]);
  });

  it("tries again after a failure and says so meanwhile", async () => {
    const rig = new Rig();
    rig.announce(12);
    await rig.fail();
    expect(rig.hosts.problem).toBe("503");
    await vi.advanceTimersByTimeAsync(500);
    await rig.give(12, WEB);
    expect([rig.hosts.problem, rig.hosts.count]).toEqual([null, 1]);
  });

  it("does not try again what was refused, until it is announced anew", async () => {
    const rig = new Rig();
    rig.announce(12);
    await rig.fail(new Denied("403"));
    await vi.advanceTimersByTimeAsync(3_600_000);
    expect([rig.hosts.problem, rig.urls.length]).toEqual(["403", 1]);
    rig.announce(12);
    await rig.give(12, WEB);
    expect([rig.hosts.problem, rig.hosts.count]).toEqual([null, 1]);
  });

  it("forgets everything at a restart, even the answer still on its way", async () => {
    const rig = new Rig();
    rig.announce(12);
    rig.hosts.clear();
    await rig.give(12, WEB);
    expect([rig.hosts.count, rig.hosts.epoch]).toEqual([0, -1]);
    rig.announce(1);
    await rig.give(1, DB);
    expect(rig.names).toEqual([undefined, undefined, "db-1"]);
  });
});
