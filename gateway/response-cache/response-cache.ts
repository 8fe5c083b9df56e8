/** Gives an answer again to who asks exactly the same: looks it up, or has it made once for all who wait, and keeps it. */
import type { Logger } from "pino";
import { anySignal } from "../../sdk/protocol/any-signal.ts";
import { waitFor } from "../attempts/backoff.ts";
import { recordAnswer } from "../idempotency/recording.ts";
import type { GatewayMetrics } from "../metrics.ts";
import type { Used } from "../settling/settle.ts";
import { type CachedAnswer, decodeAnswer, encodeAnswer } from "./answer.ts";
import { type CacheAsked, cacheHeader } from "./asked.ts";
import { cameToGoodEnd } from "./good-end.ts";
import type { ResponseCacheStore } from "./store.ts";

export type ResponseCacheOptions = {
  store: ResponseCacheStore;
  logger: Logger;
  metrics: Pick<GatewayMetrics, "responseCache" | "responseCacheErrors">;
  limits: {
    responseCacheAnswerBytesMax: number;
    responseCacheUnderWayMax: number;
    responseCacheWaitMs: number;
  };
  now: () => number;
};

/** One request that may be answered from here. */
export type Lookup = {
  projectId: string;
  key: string;
  requestId: string;
  asked: CacheAsked;
  stream: boolean;
  /** Aborted when the client leaves. */
  client: AbortSignal;
  /** Has a model answer. @param broke told that a stream did not come to a good end */
  make: (broke: () => void) => Promise<Response>;
  /** What a made answer used, once it is settled; nothing where it may not be given again. */
  used: () => Used | undefined;
  /** Answers with what was kept. */
  replay: (answer: CachedAnswer, ageSeconds: number) => Promise<Response>;
};

type Pieces = { body: Buffer; pieces: CachedAnswer["pieces"] };

export class ResponseCache {
  readonly #options: ResponseCacheOptions;
  /** What is being made, by project and key. */
  readonly #underWay = new Map<string, Promise<CachedAnswer | undefined>>();
  #recording = 0;

  constructor(options: ResponseCacheOptions) {
    this.#options = options;
  }

  /** Never fails for the store's sake: what cannot be found is made. @throws what `make` and `replay` throw */
  async answer(lookup: Lookup): Promise<Response> {
    const { projectId, key, asked, client } = lookup;
    const { limits, now } = this.#options;
    if (!asked.read) return this.#make(lookup, "store");
    const id = `${projectId}/${key}`;
    const waitUntilMs = now() + limits.responseCacheWaitMs;
    for (;;) {
      const found = await this.#get(lookup);
      if (found && now() - found.storedAtMs <= (asked.ageMsMax ?? Number.POSITIVE_INFINITY)) {
        return this.#hit(lookup, found);
      }
      if (found) return this.#make(lookup, "store");
      const underWay = this.#underWay.get(id);
      const waitMs = waitUntilMs - now();
      if (!underWay || waitMs <= 0 || client.aborted) return this.#make(lookup, "miss");
      const made = await withinTime(underWay, waitMs, client);
      if (made) return this.#hit(lookup, made);
    }
  }

  /** @returns how many answers were forgotten. @throws what the store throws: then they may still be there */
  purge(projectId: string): Promise<number> {
    return this.#options.store.purge(projectId);
  }

  /** For a request that wants the cache and cannot have it. */
  bypassed(response: Response): Response {
    return this.#mark(response, "bypass");
  }

  close(): void {
    this.#options.store.close();
  }

  #hit(lookup: Lookup, found: CachedAnswer): Promise<Response> {
    const { now, metrics } = this.#options;
    metrics.responseCache.inc({ result: "hit" });
    const ageSeconds = Math.max(0, Math.floor((now() - found.storedAtMs) / 1000));
    return lookup.replay(found, ageSeconds);
  }

  #mark(response: Response, result: "miss" | "store" | "bypass"): Response {
    this.#options.metrics.responseCache.inc({ result });
    response.headers.set(cacheHeader, result);
    return response;
  }

  async #make(lookup: Lookup, result: "miss" | "store"): Promise<Response> {
    const { limits, now } = this.#options;
    if (this.#recording >= limits.responseCacheUnderWayMax) {
      return this.bypassed(await lookup.make(() => {}));
    }
    const end = this.#begin(lookup);
    let broken = false;
    let response: Response;
    try {
      response = await lookup.make(() => {
        broken = true;
      });
    } catch (error) {
      end(undefined);
      throw error;
    }
    const { status, headers, body } = response;
    if (status !== 200 || !body) {
      end(undefined);
      return this.#mark(response, result);
    }
    const finish = (said: Pieces | undefined) => {
      const answer = said && !broken ? this.#toKeep(lookup, headers, said) : undefined;
      end(answer);
      if (answer) void this.#put(lookup, answer);
    };
    if (!lookup.stream) {
      const bytes = Buffer.from(await response.arrayBuffer());
      finish({ body: bytes, pieces: undefined });
      return this.#mark(new Response(bytes, { status, headers }), result);
    }
    const startedAtMs = now();
    const times: number[] = [];
    const recorded = recordAnswer(body, {
      bytesMax: limits.responseCacheAnswerBytesMax,
      endsWithClient: true,
      onPiece: () => void times.push(Math.round(now() - startedAtMs)),
      finish: async (pieces) =>
        finish(
          pieces && {
            body: Buffer.concat(pieces),
            pieces: pieces.map((piece, index) => [times[index] ?? 0, piece.length] as const),
          },
        ),
    });
    return this.#mark(new Response(recorded, { status, headers }), result);
  }

  #begin({ projectId, key }: Lookup): (answer: CachedAnswer | undefined) => void {
    this.#recording++;
    const id = `${projectId}/${key}`;
    let settle: (answer: CachedAnswer | undefined) => void = () => {};
    const made = new Promise<CachedAnswer | undefined>((resolve) => {
      settle = resolve;
    });
    const isFirst = !this.#underWay.has(id);
    if (isFirst) this.#underWay.set(id, made);
    return (answer) => {
      this.#recording--;
      if (isFirst) this.#underWay.delete(id);
      settle(answer);
    };
  }

  #toKeep(lookup: Lookup, headers: Headers, { body, pieces }: Pieces): CachedAnswer | undefined {
    const used = lookup.used();
    if (!used || !cameToGoodEnd(body)) return undefined;
    const kept = [...headers].filter(([name]) => keptHeaders.has(name));
    return {
      requestId: lookup.requestId,
      storedAtMs: this.#options.now(),
      headers: Object.fromEntries(kept),
      ...used,
      pieces,
      body,
    };
  }

  async #get({ projectId, key }: Lookup): Promise<CachedAnswer | undefined> {
    try {
      const bytes = await this.#options.store.get(projectId, key);
      return bytes && decodeAnswer(bytes);
    } catch (error) {
      this.#failed(error);
      return undefined;
    }
  }

  async #put({ projectId, key, asked }: Lookup, answer: CachedAnswer): Promise<void> {
    const bytes = encodeAnswer(answer);
    if (bytes.length > this.#options.limits.responseCacheAnswerBytesMax) return;
    try {
      await this.#options.store.put(projectId, key, bytes, asked.ttlMs);
    } catch (error) {
      this.#failed(error);
    }
  }

  #failed(error: unknown): void {
    this.#options.metrics.responseCacheErrors.inc();
    this.#options.logger.debug({ error: String(error) }, "the response cache is away");
  }
}

async function withinTime<T>(
  done: Promise<T>,
  ms: number,
  client: AbortSignal,
): Promise<T | undefined> {
  const over = new AbortController();
  try {
    return await Promise.race([
      done,
      waitFor(ms, anySignal([client, over.signal])).then(() => undefined),
    ]);
  } finally {
    over.abort();
  }
}

const keptHeaders: ReadonlySet<string> = new Set([
  "content-type",
  "cache-control",
  "x-accel-buffering",
  "x-switchyard-model",
  "x-switchyard-adapter",
  "x-switchyard-dropped",
]);
