// Two nodes joined by a real Redis: what one hears the other shows, and whoever is gone is named.

import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { DESKTOP, PHONE, count, launch, saysStatus, shot } from "./browser";
import { Redis } from "./redis";
import { HOSTS, send } from "./sender";
import { Server } from "./server";

/** From a death to its name on the wall: two seconds of silence, and as much again for a look. */
const NOTICE_MS = 15_000;
const BACK_MS = 30_000;

const redis = new Redis();
let a: Server;
let b: Server;
let browser: Browser;
let page: Page;
let stop = (): void => undefined;
const errors: string[] = [];

beforeAll(async () => {
  await redis.start();
  a = new Server("serve", "--redis", redis.url, "--node", "a");
  b = new Server("serve", "--redis", redis.url, "--node", "b");
  await a.start();
  await b.start();
  stop = send(b.url, {});
  browser = await launch();
  page = await browser.newPage({ viewport: DESKTOP });
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error") errors.push(message.text());
  });
});

afterAll(async () => {
  stop();
  await browser?.close();
  await a?.kill();
  await b?.kill();
  await redis.remove();
});

const note = () => page.getByTestId("note");
const facts = () => page.getByTestId("drawer").locator(".facts");

async function notes(pattern: RegExp, timeout = NOTICE_MS): Promise<void> {
  await note().filter({ hasText: pattern }).waitFor({ timeout });
}

async function isWhole(): Promise<void> {
  await expect.poll(() => note().count(), { timeout: BACK_MS }).toBe(0);
  await expect.poll(() => count(page, "ok"), { timeout: BACK_MS }).toBe(HOSTS);
}

it("shows what the other node hears, and that it does", async () => {
  await page.goto(`${a.url}#host=web-1`);
  await saysStatus(page, /Live/);
  await isWhole();
  await facts().filter({ hasText: /last heard .* ago, every .*, by node b/ }).waitFor();
  await facts().locator(".state.s1").waitFor();
  expect(await facts().locator(".cause").count()).toBe(0);
});

it("names the node that died, and says that nobody knows what its hosts do", async () => {
  await b.kill();
  await notes(/^node b silent for \d+ s$/);
  await facts().filter({ hasText: "node b unreachable: its state is not known" }).waitFor();
  await facts().locator(".state.s2").waitFor();
  await expect.poll(() => count(page, "stale"), { timeout: NOTICE_MS }).toBe(HOSTS);
  expect(await count(page, "down")).toBe(0);
  await saysStatus(page, /Live/);
  await shot(page, "cluster-1-silent-1440x900");
  await page.setViewportSize(PHONE);
  await page.waitForTimeout(500);
  await shot(page, "cluster-2-silent-390x844");
  await page.setViewportSize(DESKTOP);
});

it("is whole again when the node is back", async () => {
  await b.start();
  await isWhole();
  await facts().filter({ hasText: "by node b" }).waitFor();
  expect(await facts().locator(".cause").count()).toBe(0);
});

it("tells a lost Redis from a lost node, and forgets it when it is back", async () => {
  await redis.kill();
  await notes(/^Redis cannot be reached: 1 node unseen for \d+ s$/);
  await facts().filter({ hasText: "node b unreachable" }).waitFor();
  await shot(page, "cluster-3-no-redis-1440x900");
  await redis.start();
  await isWhole();
});

it("did all that without an error", () => {
  expect(errors).toEqual([]);
});
