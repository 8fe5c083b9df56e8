/** How long first bytes took lately, for one kind of call. */

/** The newest times of each kind; what is asked for is a quantile of those. */
export class Latencies {
  readonly #kinds = new Map<string, number[]>();

  observe(kind: string, ms: number): void {
    const times = this.#kinds.get(kind) ?? [];
    times.push(ms);
    if (times.length > samplesMax) times.shift();
    // The newest kind is last, so the first is what was not seen for longest.
    this.#kinds.delete(kind);
    this.#kinds.set(kind, times);
    const [oldest] = this.#kinds.keys();
    if (this.#kinds.size > kindsMax && oldest !== undefined) this.#kinds.delete(oldest);
  }

  /** @returns `undefined` while too little is known */
  quantile(kind: string, share: number): number | undefined {
    const times = this.#kinds.get(kind);
    if (times === undefined || times.length < samplesMin) return undefined;
    const sorted = [...times].sort((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  }
}

const samplesMax = 128;
const samplesMin = 20;
/** Models of one upstream, streamed and not. */
const kindsMax = 512;
