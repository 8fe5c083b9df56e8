/** Answers a request with an `Idempotency-Key` once, and everyone who sends it again with the same answer. */
import { hash, randomUUID } from "node:crypto";
import type { Logger } from "pino";
import { anySignal } from "../../sdk/protocol/any-signal.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import { waitFor } from "../attempts/backoff.ts";
import { recordAnswer } from "./recording.ts";
import type { IdempotencyStore, KeptAnswer, KeyedRequest } from "./store.ts";

export type IdempotencyOptions = {
  store: IdempotencyStore;
  logger: Logger;
  limits: {
    idempotencyAnswerBytesMax: number;
    idempotencyWaitMs: number;
    idempotencyLeaseMs: number;
    idempotencyUnderWayMax: number;
  };
  now: () => number;
};

export type Keyed = {
  projectId: string;
  key: string;
  /** What is asked, address included. */
  asked: string;
  requestId: string;
  /** Aborted when the client leaves. */
  client: AbortSignal;
};

/** How an answer is made, once. */
export type Answering = (made: {
  /** In the client's place: its leaving does not end what is to be kept. */
  client: AbortSignal;
  /** Told that a stream did not come to a good end. */
  broke: () => void;
}) => Promise<Response>;

export class Idempotency {
  readonly #options: IdempotencyOptions;
  /** By owner; resolved when its answer is kept, or the request let go. */
  readonly #underWay = new Map<string, { id: string; over: Promise<void> }>();
  readonly #renewing: NodeJS.Timeout;

  constructor(options: IdempotencyOptions) {
    this.#options = options;
    this.#renewing = setInterval(
      () => void this.#renew(),
      options.limits.idempotencyLeaseMs / 3,
    ).unref();
  }

  /** Waits for answers that are being kept, for as long as that may take and no longer. */
  async close(): Promise<void> {
    clearInterval(this.#renewing);
    const over = [...this.#underWay.values()].map((it) => it.over);
    const waited = new AbortController();
    await Promise.race([Promise.all(over), waitFor(closeMs, waited.signal)]);
    waited.abort();
  }

  /**
   * @throws HubError `idempotency_key_reused`, `idempotency_key_in_use`, `idempotency_answer_lost`,
   *   `database_unavailable`, and what `answer` throws: then nothing is kept
   */
  async once(keyed: Keyed, answer: Answering): Promise<Response> {
    const { limits, store, now } = this.#options;
    const request: KeyedRequest = {
      projectId: keyed.projectId,
      keyHash: hash("sha256", keyed.key),
      fingerprint: hash("sha256", keyed.asked),
      requestId: keyed.requestId,
      owner: randomUUID(),
    };
    const waitUntilMs = now() + limits.idempotencyWaitMs;
    for (;;) {
      const claim = await store.claim(request);
      switch (claim.type) {
        case "claimed":
          return await this.#answer(request, answer);
        case "answered":
          return replay(claim.answer, claim.requestId);
        case "different":
          throw new HubError(
            "idempotency_key_reused",
            "This 'Idempotency-Key' was sent with another request before. Take a new one for each request.",
            { param: keyHeader },
          );
        case "not_kept":
          throw new HubError(
            "idempotency_answer_lost",
            `The request with this 'Idempotency-Key' was answered (${claim.requestId}), and its answer was too large to be kept.`,
            { param: keyHeader },
          );
        case "under_way":
          if (keyed.client.aborted || now() >= waitUntilMs) throw inUse();
          await this.#wait(request, keyed.client);
      }
    }
  }

  async #answer(request: KeyedRequest, answer: Answering): Promise<Response> {
    const { limits, store } = this.#options;
    if (this.#underWay.size >= limits.idempotencyUnderWayMax) {
      await this.#quietly(store.release(request));
      throw new HubError(
        "server_is_overloaded",
        `This gateway has ${limits.idempotencyUnderWayMax} requests with an 'Idempotency-Key' under way, which is the most it takes.`,
        { retryAfterMs: 1000 },
      );
    }
    const end = this.#begin(request);
    const source = new AbortController();
    let broken = false;
    const finish = async (answered: KeptAnswer | "too_large" | "nothing"): Promise<void> => {
      await this.#quietly(
        answered === "nothing"
          ? store.release(request)
          : store.keep(request, answered === "too_large" ? undefined : answered),
      );
      end();
    };
    let response: Response;
    try {
      response = await answer({
        client: source.signal,
        broke: () => {
          broken = true;
        },
      });
    } catch (error) {
      await finish("nothing");
      throw error;
    }
    const { status, body, headers } = response;
    if (status !== 200 || body === null) {
      await finish("nothing");
      return response;
    }
    const recorded = recordAnswer(body, {
      bytesMax: limits.idempotencyAnswerBytesMax,
      finish: (pieces) => {
        if (broken) return finish("nothing");
        const body = pieces && Buffer.concat(pieces);
        return finish(body ? { status, headers: keptHeaders(headers), body } : "too_large");
      },
    });
    return new Response(recorded, { status, headers });
  }

  #begin({ projectId, keyHash, owner }: KeyedRequest): () => void {
    let end = () => {};
    const over = new Promise<void>((resolve) => {
      end = resolve;
    });
    this.#underWay.set(owner, { id: `${projectId}\0${keyHash}`, over });
    return () => {
      this.#underWay.delete(owner);
      end();
    };
  }

  /** Until the same request of this process is over, else for a moment: another process may have it. */
  async #wait({ projectId, keyHash }: KeyedRequest, client: AbortSignal): Promise<void> {
    const id = `${projectId}\0${keyHash}`;
    const here = [...this.#underWay.values()].find((it) => it.id === id);
    const woken = new AbortController();
    await Promise.race([waitFor(pollMs, anySignal([client, woken.signal])), here?.over ?? never]);
    woken.abort();
  }

  async #renew(): Promise<void> {
    const owners = [...this.#underWay.keys()];
    if (owners.length > 0) await this.#quietly(this.#options.store.renew(owners));
  }

  /** What the store does not take now is forgotten when its lease ends. */
  async #quietly(done: Promise<void>): Promise<void> {
    await done.catch((error) =>
      this.#options.logger.warn({ error: String(error) }, "an idempotency key could not be kept"),
    );
  }
}

/** @throws HubError `invalid_value` for what is no key */
export function readIdempotencyKey(headers: Headers): string | undefined {
  const key = headers.get(keyHeader);
  if (key === null) return undefined;
  if (/^[\x21-\x7e]{1,255}$/.test(key)) return key;
  throw new HubError(
    "invalid_value",
    "Invalid 'Idempotency-Key': expected 1 to 255 visible ASCII characters.",
    { param: keyHeader },
  );
}

function replay({ status, headers, body }: KeptAnswer, requestId: string): Response {
  return new Response(body as Uint8Array<ArrayBuffer>, {
    status,
    headers: { ...headers, [replayedHeader]: "true", "x-switchyard-replay-of": requestId },
  });
}

/** What belongs to the answer, and not to the moment in which it was given. */
function keptHeaders(headers: Headers): Record<string, string> {
  const isKept = (name: string) =>
    name.startsWith("x-switchyard-") || ["content-type", "cache-control"].includes(name);
  return Object.fromEntries([...headers].filter(([name]) => isKept(name)));
}

function inUse(): HubError {
  return new HubError(
    "idempotency_key_in_use",
    "The request with this 'Idempotency-Key' is still under way. Ask again in a moment.",
    { param: keyHeader, retryAfterMs: 1000 },
  );
}

/** On an answer that was given before. */
export const replayedHeader = "idempotent-replayed";
const keyHeader = "idempotency-key";
const pollMs = 200;
const closeMs = 2_000;
const never = new Promise<void>(() => {});
