// Chromium, and what one asks of a wall in it. CHROMIUM names the browser; screenshots go to
// E2E_OUT, if given.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { chromium } from "playwright-core";

const FLAGS = [
  "--no-sandbox",
  "--disable-dev-shm-usage",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
export const DESKTOP = { width: 1440, height: 900 };
export const PHONE = { width: 390, height: 844 };

export function launch(...flags: readonly string[]): Promise<Browser> {
  const executablePath = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
  return chromium.launch({ executablePath, args: [...FLAGS, ...flags] });
}

/** Has violations of the page's policy said on its console. */
export async function tellViolations(page: Page): Promise<void> {
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => {
      console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`);
    });
  });
}

export async function shot(page: Page, name: string): Promise<void> {
  const out = process.env["E2E_OUT"];
  if (!out) return;
  mkdirSync(out, { recursive: true });
  await page.screenshot({ path: join(out, `${name}.png`) });
}

export async function saysStatus(page: Page, pattern: RegExp, timeout = 15_000): Promise<void> {
  const status = page.getByTestId("status").filter({ hasText: pattern });
  await status.waitFor({ state: "visible", timeout });
}

/** A sum over a canvas's pixels that any change is likely to move. */
export function pixels(page: Page, selector: string): Promise<number> {
  return page.evaluate((found) => {
    const canvas = document.querySelector<HTMLCanvasElement>(found);
    const context = canvas?.getContext("2d");
    if (!canvas || !context) return -1;
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    return data.reduce((sum, byte, i) => (sum * 31 + byte * ((i % 251) + 1)) % 0x7fffffff, 7);
  }, selector);
}

/** How many hosts the wall counts in this state. */
export async function count(page: Page, state: string): Promise<number> {
  const text = await page.getByTestId(`count-${state}`).locator("dd").textContent();
  return Number((text ?? "").replaceAll(",", ""));
}
