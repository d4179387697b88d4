// A few servers that push what moves, with a token if one is wanted.

import http from "node:http";
import https from "node:https";

export const HOSTS = 24;
const INTERVAL_MS = 200;

export interface Credentials {
  readonly token?: string;
  /** PEM of the certificate to trust. */
  readonly ca?: string;
}

/** Sends until the answer is called. What is refused ends the test by leaving its wall empty. */
export function send(url: string, { token, ca }: Credentials): () => void {
  const target = new URL("/api/metrics", url);
  const headers: Record<string, string> = { "Content-Type": "application/json" };
  if (token !== undefined) headers["Authorization"] = `Bearer ${token}`;
  const options = { method: "POST", headers, ...(ca === undefined ? {} : { ca }) };
  let round = 0;
  const timer = setInterval(() => {
    round += 1;
    const request = (target.protocol === "https:" ? https : http).request(target, options);
    // A node that is being started again takes nothing meanwhile.
    request.on("error", () => undefined);
    request.on("response", (response) => response.resume());
    request.end(JSON.stringify(documents(round)));
  }, INTERVAL_MS);
  return () => clearInterval(timer);
}

/** What these servers would have sent that many seconds ago, every five seconds. */
export async function sendPast(url: string, fromS: number, toS: number): Promise<void> {
  const now = Date.now();
  const all: unknown[] = [];
  for (let s = fromS; s >= toS; s -= 5) all.push(...documents(-s, now - s * 1000));
  const response = await fetch(new URL("/api/metrics?ack=durable", url), {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(all),
  });
  if (response.status !== 201) throw new Error(`the past was answered ${response.status}`);
}

function documents(round: number, time?: number): unknown[] {
  return Array.from({ length: HOSTS }, (_, i) => {
    const cpu = 50 + 45 * Math.sin(round / 5 + i / 4);
    return { host: `web-${i}`, time, tags: { role: "web" }, metrics: { cpu } };
  });
}
