// The wall over TLS, and over which HTTP its WebSocket went, by the browser's own net log.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { DESKTOP, count, launch, pixels, saysStatus, shot, tellViolations } from "./browser";
import { HOSTS, send } from "./sender";
import { Server } from "./server";

const folder = mkdtempSync(join(tmpdir(), "tidewall-tls-"));
const cert = join(folder, "cert.pem");
const key = join(folder, "key.pem");
const log = join(folder, "net.json");
const server = new Server("serve", "--tls-cert", cert, "--tls-key", key);
const errors: string[] = [];
let browser: Browser;
let page: Page;
let stop = (): void => undefined;

function makeCertificate(): void {
  const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  const names = ["-subj", "/CN=tidewall.test", "-addext", "subjectAltName=IP:127.0.0.1"];
  const out = ["-days", "2", "-keyout", key, "-out", cert];
  execFileSync("openssl", ["req", "-x509", ...kind, ...names, ...out], { stdio: "pipe" });
}

beforeAll(async () => {
  makeCertificate();
  await server.start();
  stop = send(server.url, { ca: readFileSync(cert, "utf8") });
  const record = [`--log-net-log=${log}`, "--net-log-capture-mode=Everything"];
  browser = await launch("--ignore-certificate-errors", ...record);
  page = await browser.newPage({ viewport: DESKTOP });
  await tellViolations(page);
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error") errors.push(message.text());
  });
});

afterAll(async () => {
  stop();
  await browser?.close();
  await server.kill();
  rmSync(folder, { recursive: true, force: true });
});

it("moves", async () => {
  expect(server.url).toMatch(/^https:/);
  await page.goto(server.url);
  await saysStatus(page, /Live · \d+ ms/);
  await expect.poll(() => count(page, "ok"), { timeout: 20_000 }).toBe(HOSTS);
  const before = await pixels(page, "#map");
  await expect.poll(() => pixels(page, "#map"), { timeout: 10_000 }).not.toBe(before);
  await shot(page, "tls-1440x900");
  expect(errors).toEqual([]);
});

interface NetLog {
  readonly constants: { readonly logEventTypes: Readonly<Record<string, number>> };
  readonly events: readonly {
    readonly type: number;
    readonly params?: { readonly headers?: readonly string[]; readonly stream_id?: number };
  }[];
}

/** Chromium writes the end of the log as it leaves. */
function netLog(): NetLog | null {
  try {
    return JSON.parse(readFileSync(log, "utf8")) as NetLog;
  } catch {
    return null;
  }
}

it("had its page, its requests and its WebSocket on HTTP/2", async () => {
  await browser.close();
  await expect.poll(() => netLog() !== null, { timeout: 20_000 }).toBe(true);
  const { constants, events } = netLog() ?? { constants: { logEventTypes: {} }, events: [] };
  const heads = (event: string) => {
    const type = constants.logEventTypes[event];
    expect(type, `Chromium still has the event ${event}`).toBeDefined();
    return events.flatMap((e) => (e.type === type && e.params?.headers ? [e.params] : []));
  };
  const asked = heads("HTTP2_SESSION_SEND_HEADERS");
  const has = (...fields: string[]) => {
    return asked.filter(({ headers }) => fields.every((field) => headers?.includes(field)));
  };
  expect(has(":method: GET", ":path: /").length).toBeGreaterThanOrEqual(1);
  expect(has(":method: GET", ":scheme: https").length).toBeGreaterThanOrEqual(4);
  const [socket, ...more] = has(":method: CONNECT", ":protocol: websocket", ":path: /api/live");
  expect([socket?.stream_id, more]).toEqual([expect.any(Number), []]);
  const answers = heads("HTTP2_SESSION_RECV_HEADERS");
  const answer = answers.find(({ stream_id }) => stream_id === socket?.stream_id);
  expect(answer?.headers).toContain(":status: 200");
  expect(answer?.headers).toContain("sec-websocket-protocol: tidewall.v1");
});
