import { describe, expect, it } from "vitest";
import { Api, Denied, liveUrl } from "./api";

class Rig {
  readonly asked: string[] = [];
  readonly denials: number[] = [];
  readonly api: Api;

  constructor(status: number, body: string | null = null) {
    const fetch = (url: string, init?: RequestInit): Promise<Response> => {
      this.asked.push(`${init?.method ?? "GET"} ${url}`);
      const lost = new Error("connection refused");
      return status === 0 ? Promise.reject(lost) : Promise.resolve(new Response(body, { status }));
    };
    this.api = new Api(fetch, (denied) => this.denials.push(denied));
  }
}

describe("obstacle", () => {
  it("tells a refusal from a dead server, and names neither twice", async () => {
    const check = async (status: number, obstacle: string | null, denials: number[]) => {
      const rig = new Rig(status);
      expect(await rig.api.obstacle()).toBe(obstacle);
      expect(rig.denials).toEqual(denials);
      expect(rig.asked).toEqual(["HEAD /api/hosts"]);
    };
    await check(200, null, []);
    await check(401, null, [401]);
    await check(403, null, [403]);
    await check(404, "The server answers 404: is this Tidewall?", []);
    await check(429, "The server answers 429: is this Tidewall?", []);
    await check(503, "The server answers 503", []);
    await check(0, "The server does not answer", []);
  });
});

describe("api", () => {
  it("reads hosts and ages", async () => {
    const table = { epoch: 3, hosts: [[0, "web-1", {}]] };
    expect(await new Rig(200, JSON.stringify(table)).api.hosts("/api/hosts")).toEqual(table);
    const body = JSON.stringify({ host: { metrics: { cpu: { age_ms: 40 }, memory: {} } } });
    const rig = new Rig(200, body);
    expect(await rig.api.ages("web 1&")).toEqual(new Map([["cpu", 40]]));
    expect(rig.asked).toEqual(["GET /api/snapshot?kind=host&host=web%201%26"]);
  });

  it("reads how the nodes stand", async () => {
    const nodes = { linked: true, peers: [{ name: "b", state: "unreachable", age_ms: 3_000 }] };
    const rig = new Rig(200, JSON.stringify(nodes));
    expect(await rig.api.nodes()).toEqual(nodes);
    expect(rig.asked).toEqual(["GET /api/nodes"]);
    await expect(new Rig(404).api.nodes()).rejects.toThrow("404");
  });

  it("says of any request that it was denied", async () => {
    for (const status of [401, 403]) {
      const rig = new Rig(status);
      await expect(rig.api.hosts("/api/hosts")).rejects.toBeInstanceOf(Denied);
      await expect(rig.api.ages("web-1")).rejects.toThrow(String(status));
      await expect(rig.api.nodes()).rejects.toThrow(String(status));
      expect(rig.denials).toEqual([status, status, status]);
    }
    const busy = new Rig(503);
    await expect(busy.api.hosts("/api/hosts")).rejects.not.toBeInstanceOf(Denied);
    expect(busy.denials).toEqual([]);
  });

  it("signs out, also with a cookie that is void already", async () => {
    for (const status of [200, 401]) {
      const rig = new Rig(status);
      await rig.api.signOut();
      expect([rig.asked, rig.denials]).toEqual([["POST /logout"], []]);
    }
    for (const status of [0, 403, 503]) {
      await expect(new Rig(status).api.signOut()).rejects.toThrow();
    }
  });
});

describe("liveUrl", () => {
  it("follows the page's scheme, host and port, and nothing else of it", () => {
    const check = (page: string, live: string): void => expect(liveUrl(page)).toBe(live);
    check("http://127.0.0.1:8080/", "ws://127.0.0.1:8080/api/live");
    check("https://wall.example/#metric=cpu", "wss://wall.example/api/live");
    check("https://wall.example:8443/?a=b#c", "wss://wall.example:8443/api/live");
    check("http://[::1]:8080/index.html", "ws://[::1]:8080/api/live");
  });
});
