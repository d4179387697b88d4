// The wall's lines across a restart of the node: they begin full, and what nobody saw is a gap.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { DESKTOP, PHONE, launch, saysStatus, shot } from "./browser";
import { send, sendPast } from "./sender";
import { Server } from "./server";

const STEP_S = 10;
/** What was sent before the node went away, in seconds before now. */
const SENT_FROM_S = 590;
const SENT_TO_S = 200;
/** p50 in the dark theme. */
const P50 = [0x6f, 0x93, 0xc4] as const;

const folder = mkdtempSync(join(tmpdir(), "tidewall-history-"));
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
});

afterAll(async () => {
  stop();
  await browser?.close();
  await server.kill();
  rmSync(folder, { recursive: true, force: true });
});

/** Where on the time axis this colour is, each pixel once, in seconds before the axis ends. */
function drawn(rgb: readonly [number, number, number]): Promise<number[]> {
  return page.evaluate(([r, g, b]) => {
    const canvas = document.querySelector<HTMLCanvasElement>(".plot canvas");
    const over = document.querySelector<HTMLElement>(".plot .u-over");
    const context = canvas?.getContext("2d");
    if (!canvas || !over || !context) return [];
    const ratio = canvas.width / canvas.clientWidth;
    const left = Math.round(over.offsetLeft * ratio);
    const width = Math.round(over.clientWidth * ratio);
    const [top, height] = [over.offsetTop * ratio, over.clientHeight * ratio].map(Math.round);
    if (top === undefined || height === undefined) return [];
    const { data } = context.getImageData(left, top, width, height);
    const near = (at: number, want: number): boolean => Math.abs((data[at] ?? 0) - want) < 30;
    const found: number[] = [];
    for (let x = 0; x < width; x++) {
      for (let y = 0; y < height; y++) {
        const at = (y * width + x) * 4;
        if ((data[at + 3] ?? 0) < 100) continue;
        if (!near(at, r) || !near(at + 1, g) || !near(at + 2, b)) continue;
        found.push((1 - x / width) * 600);
        break;
      }
    }
    return found;
  }, rgb);
}

async function between(fromS: number, toS: number): Promise<number> {
  const all = await drawn(P50);
  return all.filter((s) => toS < s && s < fromS).length;
}

it("shows the minutes before a restart, and the gap", async () => {
  await sendPast(server.url, SENT_FROM_S, SENT_TO_S);
  await server.kill();
  await server.start();
  stop = send(server.url, {});
  await page.goto(server.url);
  await saysStatus(page, /Live/);
  const before = () => between(SENT_FROM_S - 3 * STEP_S, SENT_TO_S + 3 * STEP_S);
  await expect.poll(before, { timeout: 20_000 }).toBeGreaterThan(200);
  // Those who watch have seen the live lines begin.
  await expect.poll(() => between(2 * STEP_S, 0), { timeout: 20_000 }).toBeGreaterThan(2);
  await shot(page, "history-1-gap-1440x900");
  expect(await between(SENT_TO_S - 3 * STEP_S, 4 * STEP_S)).toBe(0);
});

it("says of the gap that there is no value, and of the past what it was", async () => {
  const over = await page.locator(".plot .u-over").boundingBox();
  if (!over) throw new Error("the chart has no size");
  const point = async (beforeS: number): Promise<string[]> => {
    await page.mouse.move(over.x + over.width * (1 - beforeS / 600), over.y + over.height / 2);
    return page.getByTestId("readout").locator("dd").allTextContents();
  };
  for (const value of await point(400)) expect(value).toMatch(/\d/);
  expect(await point((SENT_TO_S + STEP_S) / 2)).toEqual(["–", "–", "–", "–"]);
  await page.mouse.move(2, 2);
});

it("fills in what a hidden page missed", async () => {
  const hidden = (is: boolean): Promise<void> => {
    return page.evaluate((value) => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => value });
      document.dispatchEvent(new Event("visibilitychange"));
    }, is);
  };
  await hidden(true);
  await page.waitForTimeout(25_000);
  await hidden(false);
  await saysStatus(page, /Live/);
  // Sooner than live lines could be there.
  await expect.poll(() => between(24, 14), { timeout: 8_000 }).toBeGreaterThan(5);
  await shot(page, "history-2-filled-1440x900");
});

it("has its lines on a phone", async () => {
  await page.setViewportSize(PHONE);
  await page.waitForTimeout(500);
  expect(await between(SENT_FROM_S - 60, SENT_TO_S + 60)).toBeGreaterThan(30);
  await shot(page, "history-3-phone-390x844");
});

it("did all that without an error", () => {
  expect(errors).toEqual([]);
});
