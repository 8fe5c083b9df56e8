/**
 * What a session reserves: always one response more than is under way, because a provider that listens begins to answer by
 * itself.
 */
import { asHubError, type HubError } from "../../sdk/protocol/errors.ts";
import { newId, type RequestId } from "../../sdk/protocol/ids.ts";
import type { Reservation } from "../metering/types.ts";

export type Held = { requestId: RequestId; reservation: Reservation; atMs: number };

export type HoldsOptions = {
  /** @throws HubError as `Accounts.reserve` does */
  reserve: (requestId: RequestId) => Promise<Reservation>;
  now: () => number;
  /** How long a rate limit may make the session wait. */
  waitMsMax: number;
  wait: (ms: number) => Promise<void>;
};

export class Holds {
  readonly #options: HoldsOptions;
  readonly #held: Held[] = [];
  #ended = false;

  constructor(options: HoldsOptions) {
    this.#options = options;
  }

  /**
   * Holds at least so many. A limit that has room again soon is waited for.
   * @throws HubError as `Accounts.reserve` does
   */
  async ensure(count: number): Promise<void> {
    while (this.#held.length < count && !this.#ended) {
      const requestId = newId("req", this.#options.now());
      const reservation = await this.#reserve(requestId);
      const held = { requestId, reservation, atMs: this.#options.now() };
      if (this.#ended) await reservation.release();
      else this.#held.push(held);
    }
  }

  get isHeld(): boolean {
    return this.#held.length > 0;
  }

  take(): Held | undefined {
    return this.#held.shift();
  }

  /** Gives back what is held beyond so many, the newest first. */
  async keep(count: number): Promise<void> {
    const further = this.#held.splice(count);
    await Promise.all(further.map(({ reservation }) => reservation.release()));
  }

  /** Reserves anew what was held for too long to be relied on. @throws HubError as `ensure` */
  async renew(olderThanMs: number): Promise<void> {
    const old = this.#held.filter(({ atMs }) => this.#options.now() - atMs >= olderThanMs);
    for (const held of old) {
      this.#held.splice(this.#held.indexOf(held), 1);
      await held.reservation.release();
      await this.ensure(this.#held.length + 1);
    }
  }

  async end(): Promise<void> {
    this.#ended = true;
    await this.keep(0);
  }

  async #reserve(requestId: RequestId): Promise<Reservation> {
    let left = this.#options.waitMsMax;
    for (;;) {
      try {
        return await this.#options.reserve(requestId);
      } catch (thrown) {
        const waitMs = waitOf(asHubError(thrown));
        if (waitMs === undefined || waitMs > left || this.#ended) throw thrown;
        left -= waitMs;
        await this.#options.wait(waitMs);
      }
    }
  }
}

/** @returns undefined where waiting is of no use */
function waitOf({ code, retryAfterMs }: HubError): number | undefined {
  if (code !== "rate_limit_exceeded" || retryAfterMs === undefined) return undefined;
  return Math.max(50, retryAfterMs);
}
