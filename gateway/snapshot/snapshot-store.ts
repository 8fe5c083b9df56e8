/** Keeps the registry's snapshot in memory and on disk, and follows the registry by long poll. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "pino";
import { anySignal } from "../../sdk/protocol/any-signal.ts";
import { type Snapshot, snapshot as snapshotSchema } from "../../sdk/protocol/catalog.ts";
import { abortableRequest, type Fetcher, inProcessOrigin } from "../../sdk/protocol/http.ts";
import { writePrivateFile } from "./private-file.ts";
import { SnapshotIndex } from "./snapshot-index.ts";

export type SnapshotStoreOptions = {
  registry: Fetcher;
  operatorKey: string;
  /** Where `snapshot.json` lives; absent keeps nothing on disk. */
  dataDir?: string | undefined;
  waitMs: number;
  retryMs: number;
  retryMsMax: number;
  now: () => number;
  random?: () => number;
  logger: Logger;
};

/**
 * Traffic flows on the last snapshot while the registry is away, also after a restart: the one on disk
 * is loaded first. It holds hashes of keys and no keys, and is written 0600 all the same.
 */
export class SnapshotStore {
  readonly #options: SnapshotStoreOptions;
  readonly #stop = new AbortController();
  #current: SnapshotIndex | undefined;
  #confirmedAtMs: number | undefined;
  #loop: Promise<void> | undefined;
  #saving: Promise<void> = Promise.resolve();
  #unsaved: Snapshot | undefined;

  constructor(options: SnapshotStoreOptions) {
    this.#options = options;
  }

  current(): SnapshotIndex | undefined {
    return this.#current;
  }

  /** Time since the registry last said that this snapshot, or a new one, is the newest. */
  ageMs(): number | undefined {
    return this.#confirmedAtMs === undefined
      ? undefined
      : Math.max(0, this.#options.now() - this.#confirmedAtMs);
  }

  /** Reads what disk and registry have now, and goes on following the registry in the background. */
  async start(): Promise<void> {
    await this.#load();
    try {
      await this.refresh();
    } catch (error) {
      this.#options.logger.warn({ error: String(error) }, "registry cannot be reached");
    }
    this.#loop = this.#follow();
  }

  /** Asks the registry once, without waiting for a change. */
  async refresh(): Promise<void> {
    await this.#poll(0);
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
    await this.#saving;
  }

  async #follow(): Promise<void> {
    const { waitMs, retryMs, retryMsMax, random = Math.random, logger } = this.#options;
    let failures = 0;
    while (!this.#stop.signal.aborted) {
      try {
        await this.#poll(waitMs);
        failures = 0;
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        // Full jitter, so that many gateways do not return to a restarted registry at one moment.
        const delayMs = random() * Math.min(retryMsMax, retryMs * 2 ** failures++);
        logger.warn({ error: String(error), failures, delayMs }, "snapshot refresh failed");
        await pause(Math.max(10, delayMs), this.#stop.signal);
      }
    }
  }

  async #poll(waitMs: number): Promise<void> {
    const { registry, operatorKey, now } = this.#options;
    const known = this.#current;
    const after = known === undefined ? "" : `after=${known.version}&`;
    // The registry answers within waitMs; what takes much longer is a connection that died in silence.
    const signal = anySignal([this.#stop.signal, AbortSignal.timeout(waitMs + 10_000)]);
    const response = await abortable(
      registry.fetch(
        abortableRequest(`${inProcessOrigin}/api/snapshot?${after}waitMs=${waitMs}`, {
          headers: { authorization: `Bearer ${operatorKey}` },
          signal,
        }),
      ),
      signal,
    );
    if (response.status === 304) {
      await response.body?.cancel();
      this.#confirmedAtMs = now();
      return;
    }
    if (response.status !== 200) {
      await response.body?.cancel();
      throw new Error(`the registry answered ${response.status} to a snapshot request`);
    }
    const snapshot = snapshotSchema.parse(await abortable(response.json(), signal));
    this.#confirmedAtMs = now();
    if (this.#current?.version === snapshot.version) return;
    // A refresh beside the long poll may have brought a newer one. A restored registry, which is older for good, says so
    // again to whoever asks with that.
    const isOvertaken = this.#current !== known && snapshot.version < (this.#current?.version ?? 0);
    if (isOvertaken) return;
    this.#current = new SnapshotIndex(snapshot);
    this.#save(snapshot);
  }

  async #load(): Promise<void> {
    const { dataDir, logger } = this.#options;
    if (dataDir === undefined) return;
    try {
      const text = await readFile(join(dataDir, fileName), "utf8");
      const snapshot = snapshotSchema.parse(JSON.parse(text));
      this.#current = new SnapshotIndex(snapshot);
      this.#confirmedAtMs = Date.parse(snapshot.generatedAt);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
      logger.warn({ error: String(error) }, "the snapshot on disk cannot be used");
    }
  }

  /** Writes one after another; of several that wait only the newest is written. */
  #save(snapshot: Snapshot): void {
    const { dataDir, logger } = this.#options;
    if (dataDir === undefined) return;
    this.#unsaved = snapshot;
    this.#saving = this.#saving.then(async () => {
      const newest = this.#unsaved;
      if (newest === undefined) return;
      this.#unsaved = undefined;
      try {
        await writePrivateFile(join(dataDir, fileName), JSON.stringify(newest));
      } catch (error) {
        logger.error({ error: String(error) }, "the snapshot could not be saved");
      }
    });
  }
}

const fileName = "snapshot.json";

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done, { once: true });
    function done() {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
  });
}

/** A fetcher in this process need not know about signals; the wait ends all the same. */
function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
