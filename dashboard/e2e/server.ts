// The program under test: `TIDEWALL_BIN demo`, started, killed and started again on the same port.

import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { once } from "node:events";

const START_TIMEOUT_MS = 30_000;

export class Server {
  url = "";
  #child: ChildProcess | null = null;
  #output = "";

  /** Any free port the first time, the same one from then on. */
  async start(): Promise<void> {
    const bin = process.env["TIDEWALL_BIN"];
    if (!bin) throw new Error("TIDEWALL_BIN must name the program to test");
    const listen = this.url === "" ? "127.0.0.1:0" : new URL(this.url).host;
    const child = spawn(bin, ["demo", "--listen", listen], { stdio: ["ignore", "pipe", "pipe"] });
    this.#child = child;
    this.#output = "";
    const said = (text: Buffer): void => {
      this.#output += text.toString();
    };
    child.stdout.on("data", said);
    child.stderr.on("data", said);
    this.url = await this.#printedUrl(child);
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
      const [found] = /http:\/\/127\.0\.0\.1:\d+\//.exec(this.#output) ?? [];
      if (found !== undefined) return found;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`no URL on stdout of the server; it said:\n${this.#output}`);
  }
}
