// The program under test: TIDEWALL_BIN, started, killed and started again on the same port.

import type { ChildProcess } from "node:child_process";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";

const START_TIMEOUT_MS = 30_000;

function bin(): string {
  const path = process.env["TIDEWALL_BIN"];
  if (!path) throw new Error("TIDEWALL_BIN must name the program to test");
  return path;
}

/** Runs a command of the program to its end; what it printed. */
export function run(...args: string[]): string {
  return execFileSync(bin(), args, { encoding: "utf8" });
}

export class Server {
  url = "";
  readonly #args: readonly string[];
  #child: ChildProcess | null = null;
  #output = "";

  constructor(...args: readonly string[]) {
    this.#args = args;
  }

  /** Any free port the first time, the same one from then on. */
  async start(): Promise<void> {
    const listen = this.url === "" ? "127.0.0.1:0" : new URL(this.url).host;
    const args = [...this.#args, "--listen", listen];
    // A flag says more than the variable: the test of history names a place.
    const env = { ...process.env, TIDEWALL_HISTORY: "none" };
    const child = spawn(bin(), args, { env, stdio: ["ignore", "pipe", "pipe"] });
    this.#child = child;
    this.#output = "";
    const said = (text: Buffer): void => {
      this.#output += text.toString();
    };
    child.stdout.on("data", said);
    child.stderr.on("data", said);
    this.url = await this.#printedUrl(child);
  }

  /** Has it read certificate and tokens again. */
  reload(): void {
    this.#child?.kill("SIGHUP");
  }

  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (child === null || child.exitCode !== null) return;
    const gone = once(child, "exit");
    child.kill("SIGKILL");
    await gone;
  }

  async #printedUrl(child: ChildProcess): Promise<string> {
    const deadline = Date.now() + START_TIMEOUT_MS;
    while (Date.now() < deadline && child.exitCode === null) {
      const [found] = /https?:\/\/127\.0\.0\.1:\d+\//.exec(this.#output) ?? [];
      if (found !== undefined) return found;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`no URL on stdout of the server; it said:\n${this.#output}`);
  }
}
