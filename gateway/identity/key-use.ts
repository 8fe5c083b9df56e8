/** When keys were used last: noted in memory as requests come, told to the registry now and then. */
import { LRUCache } from "lru-cache";
import type { KeysUsed } from "../../sdk/protocol/admin.ts";
import { abortableRequest, type Fetcher, inProcessOrigin } from "../../sdk/protocol/http.ts";
import type { KeyId } from "../../sdk/protocol/ids.ts";

export type KeyUseOptions = {
  registry: Fetcher;
  operatorKey: string;
  now: () => number;
  /** Of one key no more than one use in so long is told. */
  everyMs: number;
  flushMs: number;
  /** Keys that are remembered. */
  keysMax: number;
  onError: (error: unknown) => void;
};

export class KeyUse {
  readonly #options: KeyUseOptions;
  /** The use of each that was noted last. */
  readonly #noted: LRUCache<KeyId, number>;
  /** Of them, those that the registry does not know of. */
  #untold = new Map<KeyId, number>();
  #timer: NodeJS.Timeout | undefined;

  constructor(options: KeyUseOptions) {
    this.#options = options;
    this.#noted = new LRUCache({ max: options.keysMax });
  }

  /** Costs a request one look-up in memory; waits for nothing and never throws. */
  note(id: KeyId): void {
    const { now, everyMs, flushMs, keysMax } = this.#options;
    const nowMs = now();
    if (nowMs - (this.#noted.get(id) ?? Number.NEGATIVE_INFINITY) < everyMs) return;
    this.#noted.set(id, nowMs);
    if (this.#untold.size < keysMax) this.#untold.set(id, nowMs);
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      void this.flush();
    }, flushMs).unref();
  }

  /** What the registry does not take is given up: the next use tells it again. */
  async flush(): Promise<void> {
    const untold = [...this.#untold];
    this.#untold = new Map();
    for (let from = 0; from < untold.length; from += toldAtOnce) {
      const part = untold.slice(from, from + toldAtOnce);
      const keys = part.map(([id, atMs]) => ({ id, at: new Date(atMs).toISOString() }));
      await this.#tell({ keys }).catch((error: unknown) => {
        for (const { id } of keys) this.#noted.delete(id);
        this.#options.onError(error);
      });
    }
  }

  async close(): Promise<void> {
    clearTimeout(this.#timer);
    await this.flush();
  }

  async #tell(body: KeysUsed): Promise<void> {
    const { registry, operatorKey } = this.#options;
    const response = await registry.fetch(
      abortableRequest(`${inProcessOrigin}/api/keys/used`, {
        method: "POST",
        headers: { authorization: `Bearer ${operatorKey}`, "content-type": "application/json" },
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(timeoutMs),
      }),
    );
    await response.body?.cancel();
    if (!response.ok) throw new Error(`the registry answered ${response.status} to uses of keys`);
  }
}

const timeoutMs = 5_000;
/** As many as the registry takes in one body. */
const toldAtOnce = 1000;
