/**
 * What the gateway tells Prometheus. Labels take values from the snapshot and the settings, never from
 * clients; a `model` is a base, because adapters' names are their projects' own and have no bound.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";

export type GatewayMetrics = ReturnType<typeof createMetrics>;

/** @param snapshotAgeMs `undefined` while there is no snapshot */
export function createMetrics(
  snapshotAgeMs: () => number | undefined,
  breakerStates: () => Iterable<
    readonly [upstream: string, state: "closed" | "open" | "half-open"]
  >,
) {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  new Gauge({
    name: "gateway_snapshot_age_seconds",
    help: "Time since the registry last confirmed the policy that decides requests.",
    registers,
    collect() {
      const ageMs = snapshotAgeMs();
      if (ageMs === undefined) this.reset();
      else this.set(ageMs / 1000);
    },
  });
  new Gauge({
    name: "gateway_upstream_breaker_open",
    help: "1 while an upstream is not being called, 0.5 while one call finds out whether it is back.",
    labelNames: ["upstream"],
    registers,
    collect() {
      for (const [upstream, state] of breakerStates()) {
        this.set({ upstream }, state === "open" ? 1 : state === "half-open" ? 0.5 : 0);
      }
    },
  });
  return {
    registry,
    requests: new Counter({
      name: "gateway_requests_total",
      help: "Requests to models, by the model that answered, outcome, HTTP status and error code.",
      labelNames: ["model", "outcome", "status", "code"],
      registers,
    }),
    inFlight: new Gauge({
      name: "gateway_requests_in_flight",
      help: "Requests to models that are not settled yet.",
      registers,
    }),
    ttft: new Histogram({
      name: "gateway_ttft_seconds",
      help: "Time from a request's arrival to the first bytes of its streamed answer.",
      labelNames: ["model"],
      buckets: secondsBuckets,
      registers,
    }),
    duration: new Histogram({
      name: "gateway_request_seconds",
      help: "Time from a request's arrival until it was settled.",
      labelNames: ["model", "stream"],
      buckets: secondsBuckets,
      registers,
    }),
    tokens: new Counter({
      name: "gateway_tokens_total",
      help: "Tokens settled, by model and meter; estimated ones included.",
      labelNames: ["model", "meter"],
      registers,
    }),
    unpriced: new Counter({
      name: "gateway_unpriced_requests_total",
      help: "Answered requests whose cost is unknown, because a price or the usage is.",
      labelNames: ["model"],
      registers,
    }),
    upstreamAttempts: new Counter({
      name: "gateway_upstream_attempts_total",
      help: "Calls to upstreams, by what came of them.",
      labelNames: ["upstream", "result"],
      registers,
    }),
    upstreamSeconds: new Histogram({
      name: "gateway_upstream_seconds",
      help: "Time from an upstream's call to its whole answer, or to its stream's first event.",
      labelNames: ["upstream"],
      buckets: secondsBuckets,
      registers,
    }),
  };
}

const secondsBuckets = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300,
];
