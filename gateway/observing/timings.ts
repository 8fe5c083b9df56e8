/** Where a request's time went: a few numbers for each, told by a clock that nobody sets. */

/** What Switchyard itself does for a request, in its order; translating goes on while an answer streams. */
export const ownParts = ["identify", "parse", "plan", "reserve", "translate", "settle"] as const;
export type OwnPart = (typeof ownParts)[number];

export class Timings {
  identifyMs = 0;
  /** Waiting for the client to send its body included. */
  parseMs = 0;
  planMs = 0;
  reserveMs = 0;
  /** Writing the request for its providers and the answer for its client, all attempts and all events together. */
  translateMs = 0;
  settleMs = 0;
  /** From the first attempt until a whole answer or a stream's first word was here; translating left out. */
  upstreamMs = 0;
  readonly now: () => number;
  #sinceMs: number;

  /** @param now milliseconds of a monotonic clock, fractions included */
  constructor(now: () => number = monotonicMs) {
    this.now = now;
    this.#sinceMs = now();
  }

  /** The part has just ended; it began when the one before it did, or where `skip` was called. */
  ended(part: Exclude<OwnPart, "translate">): void {
    const now = this.now();
    this[`${part}Ms`] += now - this.#sinceMs;
    this.#sinceMs = now;
  }

  /** What has passed since the last part is nobody's. */
  skip(): void {
    this.#sinceMs = this.now();
  }

  /** The attempts that began when the last part ended are over. */
  attempted(): void {
    const now = this.now();
    this.upstreamMs += Math.max(0, now - this.#sinceMs - this.translateMs);
    this.#sinceMs = now;
  }

  translating<T>(work: () => T): T {
    const began = this.now();
    try {
      return work();
    } finally {
      this.translateMs += this.now() - began;
    }
  }

  /** All that is ours. */
  get overheadMs(): number {
    let sum = 0;
    for (const part of ownParts) sum += this[`${part}Ms`];
    return sum;
  }

  /** For the request's row: milliseconds to the microsecond. Settling is what writes it, and so is not in it. */
  toRow(): RequestTimings {
    return {
      identify: rounded(this.identifyMs),
      parse: rounded(this.parseMs),
      plan: rounded(this.planMs),
      reserve: rounded(this.reserveMs),
      translate: rounded(this.translateMs),
      upstream: rounded(this.upstreamMs),
      overhead: rounded(this.overheadMs - this.settleMs),
    };
  }
}

/** Milliseconds. */
export type RequestTimings = Record<Exclude<OwnPart, "settle"> | "upstream" | "overhead", number>;

export function rounded(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}

function monotonicMs(): number {
  return performance.now();
}
