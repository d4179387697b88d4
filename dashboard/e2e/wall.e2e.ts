// The dashboard in a real browser against the real server, from first paint to its return.
//
//     TIDEWALL_BIN=target/release/tidewall E2E_OUT=shots npm run e2e
//
// More in `browser.ts`.

import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import * as wall from "./browser";
import { DESKTOP, PHONE, launch, tellViolations } from "./browser";
import { Server } from "./server";

const HOSTS_MIN = 200;

const server = new Server("demo");
let browser: Browser;
let page: Page;
let policy: string | null | undefined;
const errors: string[] = [];
/** While the server is dead, failed connections are what is tested, not an error. */
let serverIsDead = false;

beforeAll(async () => {
  await server.start();
  browser = await launch();
  page = await browser.newPage({ viewport: DESKTOP });
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error" && !serverIsDead) errors.push(message.text());
  });
  await tellViolations(page);
  const answer = await page.goto(server.url);
  policy = await answer?.headerValue("content-security-policy");
});

afterAll(async () => {
  await browser?.close();
  await server.kill();
});

const shot = (name: string): Promise<void> => wall.shot(page, name);
const pixels = (selector: string): Promise<number> => wall.pixels(page, selector);
const count = (state: string): Promise<number> => wall.count(page, state);
const saysStatus = (pattern: RegExp, timeout?: number): Promise<void> => {
  return wall.saysStatus(page, pattern, timeout);
};

async function isGrey(): Promise<boolean> {
  return (await page.locator(".page.grey").count()) > 0;
}

/** Pixels of the chart in about this colour. */
function coloured(rgb: readonly [number, number, number]): Promise<number> {
  return page.evaluate(([r, g, b]) => {
    const canvas = document.querySelector<HTMLCanvasElement>(".plot canvas");
    const context = canvas?.getContext("2d");
    if (!canvas || !context) return -1;
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    let found = 0;
    for (let i = 0; i < data.length; i += 4) {
      const near = (at: number, want: number): boolean => Math.abs((data[i + at] ?? 0) - want) < 30;
      if ((data[i + 3] ?? 0) > 100 && near(0, r) && near(1, g) && near(2, b)) found += 1;
    }
    return found;
  }, rgb);
}

it("becomes live and counts the fleet", async () => {
  await saysStatus(/^.?Live · \d+ ms/);
  await expect.poll(() => count("ok"), { timeout: 20_000 }).toBeGreaterThanOrEqual(HOSTS_MIN);
  expect(await isGrey()).toBe(false);
  expect(policy).toContain("default-src 'self'");
});

it("moves on the map", async () => {
  const before = await pixels("#map");
  await expect.poll(() => pixels("#map"), { timeout: 10_000 }).not.toBe(before);
});

it("draws percentiles and says their values", async () => {
  await expect.poll(() => coloured([0x6f, 0x93, 0xc4]), { timeout: 10_000 }).toBeGreaterThan(10);
  const values = await page.getByTestId("readout").locator("dd").allTextContents();
  expect(values).toHaveLength(4);
  for (const value of values) expect(value).toMatch(/\d/);
});

it("lists the busiest hosts and opens one", async () => {
  const rows = page.locator(".top tbody tr");
  await expect.poll(() => rows.count()).toBeGreaterThanOrEqual(10);
  await shot("1-wall-1440x900");
  await rows.first().getByRole("button").click();
  const metrics = page.getByTestId("drawer").locator("tbody tr");
  await expect.poll(() => metrics.count(), { timeout: 10_000 }).toBeGreaterThanOrEqual(1);
  expect(page.url()).toContain("host=");
  await shot("2-host-1440x900");
  await page.keyboard.press("Escape");
  await expect.poll(() => page.getByTestId("drawer").count()).toBe(0);
});

it("shows the host that is pointed at, and finds hosts by text", async () => {
  const box = await page.locator("#map").boundingBox();
  if (!box) throw new Error("the map has no size");
  await page.mouse.move(box.x + 16, box.y + 16);
  await page.getByTestId("hover").waitFor({ timeout: 5_000 });
  await page.mouse.move(2, 2);
  await page.keyboard.press("/");
  await page.keyboard.type("no such host");
  await expect.poll(() => page.locator(".matches").textContent()).toBe("0 hosts");
  await page.locator("#search").fill("");
  await page.locator("#search").blur();
});

it("pauses and plays with the space bar", async () => {
  await page.keyboard.press("Space");
  await saysStatus(/Paused/);
  expect(await isGrey()).toBe(true);
  await page.waitForTimeout(300);
  const before = await pixels("#map");
  await page.waitForTimeout(1_000);
  expect(await pixels("#map")).toBe(before);
  await page.keyboard.press("Space");
  await saysStatus(/Live/);
});

it("owns up to a dead server, and is back without a reload", async () => {
  serverIsDead = true;
  await server.kill();
  await saysStatus(/Reconnecting in \d+ s/);
  expect(await isGrey()).toBe(true);
  expect(await page.getByTestId("asof").textContent()).toMatch(/as of \d\d:\d\d:\d\d/);
  await shot("3-lost-1440x900");
  await page.evaluate(() => document.body.setAttribute("data-before", "yes"));
  await server.start();
  await saysStatus(/Live/, 45_000);
  serverIsDead = false;
  expect(await page.locator("body[data-before]").count()).toBe(1);
  await expect.poll(() => count("ok"), { timeout: 20_000 }).toBeGreaterThanOrEqual(HOSTS_MIN);
  // A fleet that is still coming in makes the wall resync for a moment.
  await expect.poll(isGrey, { timeout: 10_000 }).toBe(false);
});

it("fits a phone", async () => {
  await page.setViewportSize(PHONE);
  await page.waitForTimeout(500);
  const width = await page.evaluate(() => document.documentElement.scrollWidth);
  expect(width).toBeLessThanOrEqual(PHONE.width);
  await shot("4-phone-390x844");
  await page.setViewportSize(DESKTOP);
});

it("has a light theme", async () => {
  await page.getByRole("button", { name: /light theme/ }).click();
  await expect.poll(() => page.url()).toContain("theme=light");
  await page.waitForTimeout(500);
  await shot("5-light-1440x900");
});

it("did all that without an error", () => {
  expect(errors).toEqual([]);
});
