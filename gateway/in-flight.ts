/** Requests under way, so that a stop can refuse new ones and wait for these. */
import { HubError } from "../sdk/protocol/errors.ts";

export class InFlight {
  readonly #max: number;
  #open = 0;
  #draining = false;
  #idle: (() => void) | undefined;

  /** @param max requests at one time; further ones are refused rather than queued */
  constructor(max: number) {
    this.#max = max;
  }

  /**
   * Runs a request that counts as under way until its promise settles.
   * @throws HubError `shutting_down` once draining has begun, `server_is_overloaded` when full
   */
  async admit<T>(request: () => Promise<T>): Promise<T> {
    if (this.#draining) {
      throw new HubError("shutting_down", "This gateway is shutting down. Try again in a moment.", {
        retryAfterMs: 1000,
      });
    }
    if (this.#open >= this.#max) {
      throw new HubError(
        "server_is_overloaded",
        `This gateway has ${this.#max} requests under way, which is the most it takes.`,
        { retryAfterMs: 1000 },
      );
    }
    const end = this.open();
    try {
      return await request();
    } finally {
      end();
    }
  }

  /** Begins something more that a stop has to wait for, such as a stream; the returned function ends it. */
  open(): () => void {
    this.#open++;
    return () => {
      this.#open--;
      if (this.#open === 0) this.#idle?.();
    };
  }

  /** Refuses what comes, and resolves when nothing is under way or the time is up. */
  async drain(timeoutMs: number): Promise<void> {
    this.#draining = true;
    if (this.#open === 0) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.#idle = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
