// A real redis-server of a test's own, on a free port, which keeps nothing.

import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const START_TIMEOUT_MS = 20_000;

export class Redis {
  readonly #folder = mkdtempSync(join(tmpdir(), "tidewall-redis-"));
  #port = 0;
  #child: ChildProcess | null = null;

  get url(): string {
    return `redis://127.0.0.1:${this.#port}`;
  }

  /** On the same port each time, and empty. */
  async start(): Promise<void> {
    if (this.#port === 0) this.#port = await freePort();
    const where = ["--bind", "127.0.0.1", "--port", String(this.#port), "--dir", this.#folder];
    const keeps = ["--save", "", "--appendonly", "no"];
    this.#child = spawn("redis-server", [...where, ...keeps], { stdio: "ignore" });
    this.#child.on("error", () => undefined);
    const deadline = Date.now() + START_TIMEOUT_MS;
    while (!(await answers(this.#port))) {
      if (deadline < Date.now()) throw new Error("redis-server did not start: is it in PATH?");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (child === null || child.pid === undefined || child.exitCode !== null) return;
    const gone = once(child, "exit");
    child.kill("SIGKILL");
    await gone;
  }

  async remove(): Promise<void> {
    await this.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  if (address === null || typeof address === "string") throw new Error("no free port");
  return address.port;
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    const tell = (is: boolean): void => {
      socket.destroy();
      resolve(is);
    };
    socket.on("connect", () => socket.write("PING\r\n"));
    socket.on("data", (text) => tell(text.toString().startsWith("+PONG")));
    socket.on("error", () => tell(false));
  });
}
