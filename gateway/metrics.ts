/**
 * What the gateway tells Prometheus. Labels take values from the snapshot and the settings, never from
 * clients; a `model` is a base, because adapters' names are their projects' own and have no bound.
 */
import { Counter, collectDefaultMetrics, Gauge, Registry } from "prom-client";
import type { Upstream } from "./attempts/upstream.ts";
import { PartCounter, PartHistogram } from "./observing/histogram.ts";

export type GatewayMetrics = ReturnType<typeof createMetrics>;

/** @param snapshotAgeMs `undefined` while there is no snapshot */
export function createMetrics(
  snapshotAgeMs: () => number | undefined,
  upstreams: () => Iterable<Upstream>,
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
      for (const { name, state } of upstreams()) {
        this.set({ upstream: name }, openness[state]);
      }
    },
  });
  new Gauge({
    name: "gateway_deployment_breaker_open",
    help: "The same of each deployment, where an upstream has several.",
    labelNames: ["upstream", "deployment"],
    registers,
    collect() {
      for (const { name: upstream, deployments } of upstreams()) {
        if (deployments.length === 1) continue;
        for (const { name: deployment, state } of deployments) {
          this.set({ upstream, deployment }, openness[state]);
        }
      }
    },
  });
  return {
    registry,
    requests: new PartCounter({
      name: "gateway_requests_total",
      help: "Requests to models, by the model that answered, outcome, HTTP status and error code.",
      labels: ["model", "outcome", "status", "code"],
      registers,
    }),
    inFlight: new PartCounter({
      name: "gateway_requests_in_flight",
      help: "Requests to models that are not settled yet.",
      type: "gauge",
      registers,
    }),
    ttft: new PartHistogram({
      name: "gateway_ttft_seconds",
      help: "Time from a request's arrival to the first bytes of its streamed answer.",
      labels: ["model"],
      buckets: secondsBuckets,
      registers,
    }),
    duration: new PartHistogram({
      name: "gateway_request_seconds",
      help: "Time from a request's arrival until it was settled.",
      labels: ["model", "stream"],
      buckets: secondsBuckets,
      registers,
    }),
    tokens: new PartCounter({
      name: "gateway_tokens_total",
      help: "Tokens settled, by model and meter; estimated ones included.",
      labels: ["model", "meter"],
      registers,
    }),
    unpriced: new PartCounter({
      name: "gateway_unpriced_requests_total",
      help: "Answered requests whose cost is unknown, because a price or the usage is.",
      labels: ["model"],
      registers,
    }),
    wrongKeysHeld: new Counter({
      name: "gateway_wrong_keys_held_total",
      help: "Requests with wrong API keys that were told to wait, because too many came from their address.",
      registers,
    }),
    droppedSpans: new Counter({
      name: "gateway_dropped_spans_total",
      help: "Spans of traces that the collector did not take.",
      registers,
    }),
    responseCache: new Counter({
      name: "gateway_response_cache_requests_total",
      help: "Requests that asked for the response cache, by what it did: hit, miss, store or bypass.",
      labelNames: ["result"],
      registers,
    }),
    responseCacheErrors: new Counter({
      name: "gateway_response_cache_errors_total",
      help: "Times that the response cache's store did not answer; such requests go to their models.",
      registers,
    }),
    batchLines: new Counter({
      name: "gateway_batch_lines_total",
      help: "Lines of batches that were finished, by what became of them.",
      labelNames: ["outcome"],
      registers,
    }),
    upstreamAttempts: new PartCounter({
      name: "gateway_upstream_attempts_total",
      help: "Calls to upstreams, by what came of them.",
      labels: ["upstream", "result"],
      registers,
    }),
    unansweredTokens: new PartCounter({
      name: "gateway_unanswered_input_tokens_total",
      help: "Input of calls that gave no answer and that the provider may charge for; an estimate, billed to nobody.",
      labels: ["upstream"],
      registers,
    }),
    overhead: new PartHistogram({
      name: "gateway_overhead_seconds",
      help: "Time of a request that this gateway used itself; waiting for a client's body included, for models not.",
      buckets: overheadBuckets,
      registers,
    }),
    overheadPart: new PartHistogram({
      name: "gateway_overhead_part_seconds",
      help: "The same by part: identify, parse, plan, reserve, translate, settle.",
      labels: ["part"],
      buckets: overheadBuckets,
      registers,
    }),
    upstreamSent: new PartHistogram({
      name: "gateway_upstream_sent_seconds",
      help: "Time from an upstream's call until its first byte left, which waits for a connection.",
      labels: ["upstream"],
      buckets: overheadBuckets,
      registers,
    }),
    upstreamHead: new PartHistogram({
      name: "gateway_upstream_head_seconds",
      help: "Time from an upstream's call until the head of its answer was here.",
      labels: ["upstream"],
      buckets: secondsBuckets,
      registers,
    }),
    upstreamSeconds: new PartHistogram({
      name: "gateway_upstream_seconds",
      help: "Time from an upstream's call to its whole answer, or to its stream's first event.",
      labels: ["upstream"],
      buckets: secondsBuckets,
      registers,
    }),
  };
}

const openness = { closed: 0, "half-open": 0.5, open: 1 } as const;
const overheadBuckets = [
  0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1,
];
const secondsBuckets = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300,
];
