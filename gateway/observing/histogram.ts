/**
 * Metrics that cost their observer an addition: no object, no text and no hash for each value. prom-client's own hashes its
 * labels each time, which for the fifteen values of a request is more than some of the parts that they measure.
 */
import type { Histogram, Registry } from "prom-client";

type Named = {
  name: string;
  help: string;
  /** Values have to be of the settings' making, never a client's. */
  labels?: readonly string[];
  registers: readonly Registry[];
};

export type PartHistogramOptions = Named & {
  /** Upper bounds in seconds, ascending. */
  buckets: readonly number[];
};

export class PartHistogram {
  readonly #options: PartHistogramOptions;
  /** A count for each bucket, the count beyond them, and the sum of seconds. */
  readonly #series: Series<Float64Array>;

  constructor(options: PartHistogramOptions) {
    this.#options = options;
    this.#series = new Series(options, () => new Float64Array(options.buckets.length + 2));
    register(options, "histogram", () => this.#told());
  }

  /** @param values of the labels, in their order */
  observe(seconds: number, ...values: readonly string[]): void {
    const { buckets } = this.#options;
    const counts = this.#series.at(values);
    let index = 0;
    while (index < buckets.length && seconds > (buckets[index] ?? 0)) index++;
    counts[index] = (counts[index] ?? 0) + 1;
    const sum = buckets.length + 1;
    counts[sum] = (counts[sum] ?? 0) + seconds;
  }

  #told(): object[] {
    const { name, buckets } = this.#options;
    return this.#series.all().flatMap(({ labels, value: counts }) => {
      let count = 0;
      const bounded = [...buckets, "+Inf"].map((le, index) => {
        count += counts[index] ?? 0;
        return { metricName: `${name}_bucket`, labels: { le, ...labels }, value: count };
      });
      return [
        ...bounded,
        { metricName: `${name}_sum`, labels, value: counts[buckets.length + 1] ?? 0 },
        { metricName: `${name}_count`, labels, value: count },
      ];
    });
  }
}

/** A counter, or a gauge that goes up and down. */
export class PartCounter {
  readonly #series: Series<{ count: number }>;

  constructor(options: Named & { type?: "counter" | "gauge" }) {
    this.#series = new Series(options, () => ({ count: 0 }));
    register(options, options.type ?? "counter", () =>
      this.#series.all().map(({ labels, value: { count } }) => ({ labels, value: count })),
    );
  }

  /** @param values of the labels, in their order */
  add(count: number, ...values: readonly string[]): void {
    this.#series.at(values).count += count;
  }
}

/** What is counted for each combination of the labels' values: a map of maps, whose look-ups hash nothing anew. */
class Series<T> {
  readonly #labels: readonly string[];
  readonly #make: () => T;
  readonly #root: Level<T> = { next: new Map(), value: undefined };
  readonly #all: { labels: Record<string, string>; value: T }[] = [];

  constructor({ labels = [] }: Pick<Named, "labels">, make: () => T) {
    this.#labels = labels;
    this.#make = make;
    // Without labels there is one, and it is told before it is used, as prom-client does.
    if (labels.length === 0) this.at([]);
  }

  at(values: readonly string[]): T {
    let level = this.#root;
    for (const value of values) {
      let next = level.next.get(value);
      if (next === undefined) {
        next = { next: new Map(), value: undefined };
        level.next.set(value, next);
      }
      level = next;
    }
    if (level.value === undefined) {
      level.value = this.#make();
      const labels = this.#labels.map((name, index) => [name, values[index] ?? ""]);
      this.#all.push({ labels: Object.fromEntries(labels), value: level.value });
    }
    return level.value;
  }

  all(): readonly { labels: Record<string, string>; value: T }[] {
    return this.#all;
  }
}

type Level<T> = { next: Map<string, Level<T>>; value: T | undefined };

/** A registry asks a metric for nothing else when it is read. */
function register({ name, help, registers }: Named, type: string, values: () => object[]): void {
  const get = async () => ({ name, help, type, values: values(), aggregator: "sum" });
  for (const registry of registers) {
    registry.registerMetric({ name, help, type, get } as unknown as Histogram);
  }
}
