// Plain requests to the node. A WebSocket that fails tells no status, so their answers are also
// how this page learns that it may not watch.

import type { HostTable } from "./hosts";
import type { Nodes } from "./nodes";

/** Without a known token, or with one that has not the scope: trying again changes nothing. */
export type DeniedStatus = 401 | 403;

export class Denied extends Error {}

type Fetch = (url: string, init?: RequestInit) => Promise<Response>;

interface HostAnswer {
  readonly host?: { readonly metrics?: Readonly<Record<string, { readonly age_ms?: number }>> };
}

export class Api {
  readonly #fetch: Fetch;
  readonly #denied: (status: DeniedStatus) => void;

  /** `denied` hears of every 401 and 403, whatever was asked for. */
  constructor(fetch: Fetch, denied: (status: DeniedStatus) => void) {
    this.#fetch = fetch;
    this.#denied = denied;
  }

  async hosts(url: string): Promise<HostTable> {
    const answer = await this.#ask(url);
    const { ok, status } = answer;
    if (isDenied(status)) throw new Denied(`Host names are refused (${status})`);
    if (!ok) throw new Error(`Host names could not be loaded (${status})`);
    return (await answer.json()) as HostTable;
  }

  /** By metric, ms. */
  async ages(host: string): Promise<ReadonlyMap<string, number>> {
    const answer = await this.#ask(`/api/snapshot?kind=host&host=${encodeURIComponent(host)}`);
    if (!answer.ok) throw new Error(String(answer.status));
    const { host: found } = (await answer.json()) as HostAnswer;
    const ages = new Map<string, number>();
    for (const [name, { age_ms }] of Object.entries(found?.metrics ?? {})) {
      if (age_ms !== undefined) ages.set(name, age_ms);
    }
    return ages;
  }

  async nodes(): Promise<Nodes> {
    const answer = await this.#ask("/api/nodes");
    if (!answer.ok) throw new Error(String(answer.status));
    return (await answer.json()) as Nodes;
  }

  /** What stands between this page and a WebSocket, as far as HTTP can tell; null: nothing. */
  async obstacle(): Promise<string | null> {
    try {
      const { status } = await this.#ask("/api/hosts", { method: "HEAD", cache: "no-store" });
      if (isDenied(status)) return null;
      if (status >= 500) return `The server answers ${status}`;
      return status < 400 ? null : `The server answers ${status}: is this Tidewall?`;
    } catch {
      return "The server does not answer";
    }
  }

  /** No form: one that fails would take the wall away. A cookie that is void is as good as gone. */
  async signOut(): Promise<void> {
    const { ok, status } = await this.#fetch("/logout", { method: "POST" });
    if (!ok && status !== 401) throw new Error(`Could not sign out (${status})`);
  }

  async #ask(url: string, init?: RequestInit): Promise<Response> {
    const answer = await this.#fetch(url, init);
    if (isDenied(answer.status)) this.#denied(answer.status);
    return answer;
  }
}

function isDenied(status: number): status is DeniedStatus {
  return status === 401 || status === 403;
}

/** Where the live protocol is, by the page's own address: a proxy in between changes nothing. */
export function liveUrl(page: string): string {
  const url = new URL("/api/live", page);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}
