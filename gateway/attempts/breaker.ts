/** Stops calling an upstream that keeps failing, and finds out with one call when it is back. */

export type BreakerOptions = {
  /** Failures in a row that open it. */
  failures: number;
  openMs: number;
  openMsMax: number;
  now: () => number;
};

/**
 * Closed: calls pass. Open: none does, for a time that doubles with each failed probe. Half-open: the
 * first call after that time is the probe; the others wait for what becomes of it.
 */
export class Breaker {
  readonly #options: BreakerOptions;
  #failures = 0;
  #openUntilMs: number | undefined;
  #openMs: number;
  #probing = false;

  constructor(options: BreakerOptions) {
    this.#options = options;
    this.#openMs = options.openMs;
  }

  get state(): "closed" | "open" | "half-open" {
    if (this.#openUntilMs === undefined) return "closed";
    return this.#options.now() < this.#openUntilMs ? "open" : "half-open";
  }

  /** When a call may be tried again, `undefined` when one may now. */
  retryAfterMs(): number | undefined {
    switch (this.state) {
      case "closed":
        return undefined;
      case "open":
        return (this.#openUntilMs ?? 0) - this.#options.now();
      case "half-open":
        return this.#probing ? this.#openMs : undefined;
    }
  }

  /** Asks to make a call; `true` obliges the caller to tell its outcome. */
  enter(): boolean {
    if (this.retryAfterMs() !== undefined) return false;
    if (this.state === "half-open") this.#probing = true;
    return true;
  }

  succeed(): void {
    this.#failures = 0;
    this.#probing = false;
    this.#openUntilMs = undefined;
    this.#openMs = this.#options.openMs;
  }

  /** A stream has begun: enough to end a probe, not to forget failures; its end tells the rest. */
  begun(): void {
    if (this.#probing) this.succeed();
  }

  fail(): void {
    this.#failures++;
    const failedProbe = this.#probing;
    this.#probing = false;
    if (failedProbe) this.#openMs = Math.min(this.#openMs * 2, this.#options.openMsMax);
    if (failedProbe || this.#failures >= this.#options.failures) {
      this.#openUntilMs = this.#options.now() + this.#openMs;
    }
  }

  /** The call ended without saying anything about the upstream: its client left. */
  abandon(): void {
    this.#probing = false;
  }
}
