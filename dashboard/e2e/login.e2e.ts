// A node with tokens in a real browser: in by the form, out by the button, and out when the token
// no longer holds.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { DESKTOP, PHONE, count, launch, pixels, saysStatus, shot } from "./browser";
import { tellViolations } from "./browser";
import { HOSTS, send } from "./sender";
import { Server, run } from "./server";

/** From a token's end to the login page: the node looks at its viewers every few seconds. */
const NOTICE_MS = 60_000;
const EXPIRES_MS = 15_000;
const FIELD = "#token";

interface Token {
  readonly text: string;
  readonly entry: string;
}

const folder = mkdtempSync(join(tmpdir(), "tidewall-login-"));
const file = join(folder, "tokens.toml");
const server = new Server("serve", "--tokens", file);
const ingest = newToken("fleet", "ingest");
const read = newToken("wall", "read");
const violations: string[] = [];
let browser: Browser;
let page: Page;
let stop = (): void => undefined;

/** As `tidewall token new` prints them: the token, and below it the entry. */
function newToken(name: string, scope: string, ...more: string[]): Token {
  const printed = run("token", "new", "--name", name, "--scope", scope, ...more);
  const [text] = /^tw_[0-9a-f]+$/m.exec(printed) ?? [];
  const [entry] = /^\[\[token\]\][^]*/m.exec(printed) ?? [];
  if (text === undefined || entry === undefined) throw new Error(`no token in:\n${printed}`);
  return { text, entry };
}

function configure(...entries: string[]): void {
  writeFileSync(file, entries.join("\n"));
}

beforeAll(async () => {
  configure(ingest.entry, read.entry);
  await server.start();
  stop = send(server.url, { token: ingest.text });
  browser = await launch();
});

afterAll(async () => {
  stop();
  await browser?.close();
  await server.kill();
  rmSync(folder, { recursive: true, force: true });
});

/** A browser that was never here. */
beforeEach(async () => {
  await page?.context().close();
  const context = await browser.newContext({ viewport: DESKTOP });
  page = await context.newPage();
  await tellViolations(page);
  page.on("console", (message) => {
    if (message.text().includes("CSP")) violations.push(message.text());
  });
});

function at(path: string): string {
  return new URL(path, server.url).href;
}

async function submit(token: string): Promise<void> {
  await page.fill(FIELD, token);
  await page.getByRole("button", { name: "Sign in" }).click();
}

async function signIn(token: string, path = "/"): Promise<void> {
  await page.goto(at(path));
  await submit(token);
  await saysStatus(page, /Live · \d+ ms/);
}

async function isAtLogin(timeout = 10_000): Promise<void> {
  await page.waitForURL((url) => url.pathname === "/login", { timeout });
  await page.locator(FIELD).waitFor({ state: "visible" });
}

it("leads to a form that is ready to type into", async () => {
  const errors: string[] = [];
  page.on("console", (message) => {
    if (message.type() === "error") errors.push(message.text());
  });
  await page.goto(at("/"));
  expect(page.url()).toBe(at("/login"));
  const token = page.getByLabel("Access token");
  expect(await token.evaluate((field) => field === document.activeElement)).toBe(true);
  expect(await page.locator("main").textContent()).toContain("with the scope read");
  expect(await page.getByRole("alert").count()).toBe(0);
  // Style, script and icon came although nobody is signed in.
  expect(errors).toEqual([]);
  await shot(page, "login-1440x900");
});

it("says that a token is refused, and why that may be", async () => {
  await page.goto(at("/#theme=light"));
  for (const token of ["tw_0", ingest.text, "wrong; \"token\"", read.text.slice(0, -1)]) {
    await submit(token);
    await page.waitForURL((url) => url.search === "?failed");
    const alert = page.getByRole("alert");
    await alert.filter({ hasText: "unknown, has expired, or lacks the scope" }).waitFor();
    expect(await page.locator(FIELD).getAttribute("aria-invalid")).toBe("true");
    expect(await page.locator(FIELD).inputValue()).toBe("");
    await page.goto(at("/login#theme=light"));
  }
  expect(await page.context().cookies()).toEqual([]);
});

it("shows the wall that was asked for, moving", async () => {
  await page.goto(at("/#metric=cpu&group=role&theme=light"));
  await submit("a typing error");
  await submit(read.text);
  await saysStatus(page, /Live · \d+ ms/);
  expect(page.url()).toBe(at("/#metric=cpu&group=role&theme=light"));
  await expect.poll(() => count(page, "ok"), { timeout: 20_000 }).toBe(HOSTS);
  const before = await pixels(page, "#map");
  await expect.poll(() => pixels(page, "#map"), { timeout: 10_000 }).not.toBe(before);
  const [cookie] = await page.context().cookies();
  const expected = { name: "tidewall", httpOnly: true, sameSite: "Strict", secure: false };
  expect(cookie).toMatchObject(expected);
});

it("signs in without JavaScript", async () => {
  const context = await browser.newContext({ javaScriptEnabled: false });
  const plain = await context.newPage();
  await plain.goto(at("/"));
  await plain.fill(FIELD, read.text);
  await plain.click("button");
  await plain.waitForURL(at("/"));
  expect(await plain.locator("noscript").count()).toBe(1);
  const answer = await plain.goto(at("/api/snapshot"));
  expect(answer?.status()).toBe(200);
  await context.close();
});

it("signs out, and stays out", async () => {
  await signIn(read.text, "/#theme=light");
  await page.getByRole("button", { name: "Sign out" }).click();
  await isAtLogin();
  expect(page.url()).toContain("theme=light");
  expect(await page.context().cookies()).toEqual([]);
  await page.goBack();
  await isAtLogin();
  await page.goto(at("/"));
  await isAtLogin();
});

it("offers no way out of a node that asks for no token", async () => {
  const open = new Server("serve");
  await open.start();
  try {
    await page.goto(open.url);
    await page.getByTestId("empty").waitFor();
    await saysStatus(page, /Live/);
    expect(await page.getByRole("button", { name: "Sign out" }).count()).toBe(0);
  } finally {
    await open.kill();
  }
});

it("goes to the form by itself once the token has expired", async () => {
  const expires = new Date(Date.now() + EXPIRES_MS).toISOString();
  const guest = newToken("guest", "read", "--expires", expires);
  configure(ingest.entry, read.entry, guest.entry);
  server.reload();
  // The node reads the file when it comes to it.
  await expect.poll(() => knows(guest.text), { timeout: 5_000 }).toBe(true);
  await signIn(guest.text);
  await isAtLogin(NOTICE_MS);
  await page.goto(at("/"));
  await isAtLogin();
}, 2 * NOTICE_MS);

async function knows(token: string): Promise<boolean> {
  const headers = { Authorization: `Bearer ${token}` };
  return (await fetch(at("/api/hosts"), { headers })).ok;
}

it("says so when the token may no longer read, and does not try for ever", async () => {
  await signIn(read.text);
  configure(ingest.entry, read.entry.replace('"read"', '"ingest"'));
  server.reload();
  await saysStatus(page, /No access.*This token may not read/, NOTICE_MS);
  let requests = 0;
  page.on("request", () => (requests += 1));
  page.on("websocket", () => (requests += 1));
  await page.waitForTimeout(3_000);
  expect(requests).toBe(0);
  await shot(page, "no-access-1440x900");
  configure(ingest.entry, read.entry);
  server.reload();
  await expect.poll(() => knows(read.text), { timeout: 5_000 }).toBe(true);
  await page.getByRole("button", { name: "try again" }).click();
  await saysStatus(page, /Live/);
}, 2 * NOTICE_MS);

it("fits a phone, in and out", async () => {
  await page.setViewportSize(PHONE);
  await page.goto(at("/login?failed"));
  const width = (): Promise<number> => page.evaluate(() => document.documentElement.scrollWidth);
  expect(await width()).toBeLessThanOrEqual(PHONE.width);
  await shot(page, "login-failed-390x844");
  await signIn(read.text);
  expect(await width()).toBeLessThanOrEqual(PHONE.width);
  await shot(page, "signed-in-390x844");
});

it("kept to its policy throughout", () => {
  expect(violations).toEqual([]);
});
