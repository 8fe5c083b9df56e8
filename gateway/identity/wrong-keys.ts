/** Bounds how many wrong keys one address may try: further ones are told to wait, and fill no log. Right keys pass. */
import { LRUCache } from "lru-cache";
import { HubError } from "../../sdk/protocol/errors.ts";

export type WrongKeysOptions = {
  now: () => number;
  /** Wrong keys of one address in one minute that are told to be wrong. */
  perMinuteMax: number;
  /** Addresses that are remembered; of further ones that which was silent longest is forgotten. */
  addressesMax: number;
};

export class WrongKeys {
  readonly #options: WrongKeysOptions;
  readonly #tried: LRUCache<string, { count: number; endMs: number }>;

  constructor(options: WrongKeysOptions) {
    this.#options = options;
    this.#tried = new LRUCache({ max: options.addressesMax });
  }

  /**
   * Counts a wrong key. Whether it is one was found out as always, so that what is told now tells nothing about it.
   * @param error why a request is refused, for whatever reason
   * @param address absent where no server took the request in
   * @returns what to answer in place of the refusal
   */
  hold({ code }: HubError, address: string | undefined): HubError | undefined {
    if (code !== "invalid_api_key") return undefined;
    const { now, perMinuteMax } = this.#options;
    const nowMs = now();
    const who = address ?? "";
    const known = this.#tried.get(who);
    const tried = known && known.endMs > nowMs ? known : { count: 0, endMs: nowMs + minuteMs };
    tried.count++;
    this.#tried.set(who, tried);
    if (tried.count <= perMinuteMax) return undefined;
    return new HubError(
      "rate_limit_exceeded",
      `More than ${perMinuteMax} wrong API keys a minute came from your address. Wait before you try another.`,
      { retryAfterMs: tried.endMs - nowMs },
    );
  }
}

const minuteMs = 60_000;
