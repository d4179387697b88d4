// The wall rewound: the past in the past's own words, and the present again by itself.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { DESKTOP, PHONE, launch, pixels, saysStatus, shot } from "./browser";
import { send, sendPast } from "./sender";
import { Server } from "./server";

const folder = mkdtempSync(join(tmpdir(), "tidewall-replay-"));
const server = new Server("serve", "--history", `sqlite:${join(folder, "data")}`);
let browser: Browser;
let page: Page;
let stop = (): void => undefined;
const errors: string[] = [];

beforeAll(async () => {
  await server.start();
  browser = await launch();
  page = await browser.newPage({ viewport: DESKTOP });
  page.on("pageerror", (error) => errors.push(String(error)));
  await sendPast(server.url, 600, 0);
  stop = send(server.url, {});
  await page.goto(server.url);
  await saysStatus(page, /Live/);
});

afterAll(async () => {
  stop();
  await browser?.close();
  await server.kill();
  rmSync(folder, { recursive: true, force: true });
});

/** How many seconds ago the badge says it is, of less than a day. */
async function secondsAgo(): Promise<number> {
  const text = (await page.getByTestId("replay").textContent()) ?? "";
  const [, h, m, s] = /REPLAY (\d+):(\d+):(\d+)/.exec(text) ?? [];
  const now = new Date();
  const nowS = (now.getHours() * 60 + now.getMinutes()) * 60 + now.getSeconds();
  return (nowS - ((Number(h) * 60 + Number(m)) * 60 + Number(s)) + 86_400) % 86_400;
}

it("rewinds by the keyboard and says of when it is", async () => {
  await page.locator("#back").selectOption({ label: "5 min" });
  await page.locator("#speed").selectOption({ label: "10x" });
  await page.locator("#speed").focus();
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.getByTestId("replay").filter({ hasText: /· 10x/ }).waitFor();
  await saysStatus(page, /Replay/);
  await expect.poll(secondsAgo, { timeout: 5_000 }).toBeLessThan(310);
  const [ago, map] = [await secondsAgo(), await pixels(page, "#map")];
  expect(ago).toBeGreaterThan(240);
  await expect.poll(secondsAgo, { timeout: 5_000 }).toBeLessThan(ago - 15);
  await expect.poll(() => pixels(page, "#map"), { timeout: 5_000 }).not.toBe(map);
  await shot(page, "replay-1-1440x900");
});

it("stands still between two steps, however much comes in", async () => {
  // The hosts send five times a second, and a step of the past comes once a second.
  const seen = new Set<number>();
  const until = Date.now() + 2_000;
  while (Date.now() < until) {
    seen.add(await pixels(page, "#map"));
    await page.waitForTimeout(50);
  }
  expect(seen.size).toBeLessThanOrEqual(4);
});

it("fits a phone", async () => {
  await page.setViewportSize(PHONE);
  await page.waitForTimeout(300);
  const wide = (): Promise<number> => page.evaluate(() => document.documentElement.scrollWidth);
  expect(await wide()).toBeLessThanOrEqual(PHONE.width);
  await shot(page, "replay-2-phone-390x844");
  await page.locator("#rewind").click();
  await saysStatus(page, /Live/);
  expect(await page.getByTestId("replay").count()).toBe(0);
  expect(await wide()).toBeLessThanOrEqual(PHONE.width);
  await shot(page, "replay-3-phone-live-390x844");
  await page.setViewportSize(DESKTOP);
});

it("catches up with the present by itself", async () => {
  await page.locator("#speed").selectOption({ label: "60x" });
  await page.locator("#rewind").click();
  await page.getByTestId("replay").filter({ hasText: /· 60x/ }).waitFor();
  await page.getByTestId("replay").waitFor({ state: "detached", timeout: 15_000 });
  await saysStatus(page, /Live/);
  await shot(page, "replay-4-live-1440x900");
});

it("did all that without an error", () => {
  expect(errors).toEqual([]);
});
