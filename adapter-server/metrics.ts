/** Metrics under vLLM's names, so that dashboards and routers made for vLLM read them; ours by adapter beside them. */
import { Registry } from "prom-client";
import { type EngineSeriesParts, registerEngineSeries } from "./metrics/engine-series.ts";
import { RequestSeries, type RequestTrack, type TrackedRequest } from "./metrics/request-series.ts";
import { Series } from "./metrics/series.ts";

export type MetricsParts = EngineSeriesParts & {
  /** The base's name to clients. */
  modelName: string;
  monotonicMs: () => number;
};

export class Metrics {
  readonly registry = new Registry();
  readonly #requests: RequestSeries;

  constructor(parts: MetricsParts) {
    this.registry.setDefaultLabels({ engine: "0", model_name: parts.modelName });
    const series = new Series(this.registry);
    this.#requests = new RequestSeries(series, parts);
    registerEngineSeries(series, parts);
  }

  /** The request has its weights and goes to the engine. */
  begin(request: TrackedRequest): RequestTrack {
    return this.#requests.begin(request);
  }

  /** A queue was full. */
  rejected(): void {
    this.#requests.rejected();
  }
}
