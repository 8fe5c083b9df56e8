/** The histograms of OpenTelemetry's `gen_ai.*` conventions, cumulative since the start. */
import { inputMeters, outputMeters } from "../../sdk/protocol/usage.ts";
import type { Observed } from "./otlp.ts";
import { attributesOf, sumOf, toNanos } from "./otlp-encoding.ts";

type Series = { attributes: object[]; counts: number[]; sum: number; count: number };

export class GenAiMetrics {
  readonly #startedAtMs: number;
  readonly #duration = new Map<string, Series>();
  readonly #firstChunk = new Map<string, Series>();
  readonly #tokens = new Map<string, Series>();

  constructor(startedAtMs: number) {
    this.#startedAtMs = startedAtMs;
  }

  observe(observed: Observed, { operation, provider }: { operation: string; provider: string }) {
    const labels = {
      "gen_ai.operation.name": operation,
      "gen_ai.provider.name": provider,
      // What a client asked for may be anything; what answered is of the registry.
      "gen_ai.request.model": observed.model,
    };
    const seconds = (observed.endedAtMs - observed.startedAtMs) / 1000;
    const failed = { ...labels, "error.type": observed.errorCode };
    add(this.#duration, failed, { value: seconds, bounds: secondsBounds });
    if (observed.ttftMs !== undefined) {
      add(this.#firstChunk, labels, { value: observed.ttftMs / 1000, bounds: secondsBounds });
    }
    for (const [type, meters] of [
      ["input", inputMeters],
      ["output", outputMeters],
    ] as const) {
      const value = sumOf(observed.usage, meters);
      const typed = { ...labels, "gen_ai.token.type": type };
      if (value !== undefined) add(this.#tokens, typed, { value, bounds: tokenBounds });
    }
  }

  /** As OTLP's JSON has metrics. */
  told(nowMs: number): object[] {
    const times = { startTimeUnixNano: toNanos(this.#startedAtMs), timeUnixNano: toNanos(nowMs) };
    const tell = (name: string, unit: string, series: Map<string, Series>, bounds: number[]) => {
      if (series.size === 0) return [];
      const dataPoints = [...series.values()].map(({ attributes, counts, sum, count }) => ({
        ...times,
        attributes,
        sum,
        count: String(count),
        bucketCounts: counts.map(String),
        explicitBounds: bounds,
      }));
      return [{ name, unit, histogram: { aggregationTemporality: cumulative, dataPoints } }];
    };
    return [
      ...tell("gen_ai.client.operation.duration", "s", this.#duration, secondsBounds),
      ...tell("gen_ai.client.operation.time_to_first_chunk", "s", this.#firstChunk, secondsBounds),
      ...tell("gen_ai.client.token.usage", "{token}", this.#tokens, tokenBounds),
    ];
  }
}

function add(
  all: Map<string, Series>,
  labels: Record<string, string | undefined>,
  { value, bounds }: { value: number; bounds: readonly number[] },
): void {
  const key = Object.values(labels).join("\n");
  let series = all.get(key);
  if (!series) {
    if (all.size >= seriesMax) return;
    const counts = Array.from({ length: bounds.length + 1 }, () => 0);
    series = { attributes: attributesOf(labels), counts, sum: 0, count: 0 };
    all.set(key, series);
  }
  const index = bounds.findIndex((bound) => value <= bound);
  const bucket = index === -1 ? bounds.length : index;
  series.counts[bucket] = (series.counts[bucket] ?? 0) + 1;
  series.sum += value;
  series.count++;
}

const cumulative = 2;
const seriesMax = 2000;
/** The conventions' own. */
const secondsBounds = [
  0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
];
const tokenBounds = [
  1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864,
];
