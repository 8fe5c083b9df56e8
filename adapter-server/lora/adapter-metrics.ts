/** Where adapters are, how long they took to get there, and who made way for them. */
import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import type { Engine } from "../engine/engine.ts";
import type { AdapterLabels } from "./adapter-labels.ts";
import type { AdapterStore } from "./adapter-store.ts";

export type AdapterMetricsParts = {
  registry: Registry;
  adapters: Pick<AdapterStore, "listen" | "stats">;
  engine: Pick<Engine, "stats" | "onSlotEvent">;
  labels: AdapterLabels;
};

/** Registers the series; they follow store and engine from then on. */
export function registerAdapterMetrics({ registry, ...parts }: AdapterMetricsParts): void {
  const { adapters, engine, labels } = parts;
  const registers = [registry];
  const loads = new Histogram({
    name: "switchyard_adapter_load_seconds",
    help: "From the decision to load an adapter until it was there, by where it was found: 'host' is from memory to a slot.",
    labelNames: ["tier"],
    buckets: loadBuckets,
    registers,
  });
  const loadsByAdapter = new Counter({
    name: "switchyard_adapter_loads_total",
    help: "Loads of adapters, by where they were found.",
    labelNames: ["adapter", "tier"],
    registers,
  });
  const evictions = new Counter({
    name: "switchyard_adapter_evictions_total",
    help: "Adapters that made way for others, by where.",
    labelNames: ["adapter", "tier"],
    registers,
  });
  const waits = new Histogram({
    name: "switchyard_adapter_wait_seconds",
    help: "From a request until its adapter is in host memory.",
    buckets: loadBuckets,
    registers,
  });
  const waitsByAdapter = new Counter({
    name: "switchyard_adapter_wait_seconds_total",
    help: "The same, summed up by adapter.",
    labelNames: ["adapter"],
    registers,
  });
  for (const tier of ["host", "disk", "folder", "registry"]) loads.zero({ tier });

  const observeLoad = (digest: string, tier: string, ms: number) => {
    loads.observe({ tier }, ms / 1000);
    loadsByAdapter.inc({ adapter: labels.bounded(digest), tier });
  };
  adapters.listen((event) => {
    if (event.type === "loaded") observeLoad(event.digest, event.tier, event.ms);
    if (event.type === "evicted") {
      evictions.inc({ adapter: labels.bounded(event.digest), tier: event.tier });
    }
    if (event.type === "acquired") {
      waits.observe(event.ms / 1000);
      waitsByAdapter.inc({ adapter: labels.bounded(event.digest) }, event.ms / 1000);
    }
  });
  engine.onSlotEvent((event) => {
    if (event.type === "loaded") observeLoad(event.digest, "host", event.ms);
    else evictions.inc({ adapter: labels.bounded(event.digest), tier: "slot" });
  });
  registerResidency(registry, parts);
}

function registerResidency(
  registry: Registry,
  { adapters, engine, labels }: Omit<AdapterMetricsParts, "registry">,
): void {
  const registers = [registry];
  const digestsByTier = (): Record<string, string[]> => {
    const { hostDigests, diskDigests } = adapters.stats();
    const slots = engine.stats().slots.filter((digest) => digest !== undefined);
    return { slot: slots, host: hostDigests, disk: diskDigests };
  };
  new Gauge({
    name: "switchyard_adapter_resident",
    help: "Adapters by the places where they are: 'slot', 'host', 'disk'.",
    labelNames: ["adapter", "tier"],
    registers,
    collect() {
      this.reset();
      for (const [tier, digests] of Object.entries(digestsByTier())) {
        for (const digest of digests) this.inc({ adapter: labels.bounded(digest), tier });
      }
    },
  });
  new Gauge({
    name: "switchyard_adapters",
    help: "How many adapters are in each place.",
    labelNames: ["tier"],
    registers,
    collect() {
      for (const [tier, digests] of Object.entries(digestsByTier())) {
        this.set({ tier }, digests.length);
      }
    },
  });
  new Gauge({
    name: "switchyard_adapter_bytes",
    help: "Bytes that adapters take in each place; 'pinned' is part of 'host'.",
    labelNames: ["tier"],
    registers,
    collect() {
      const { hostBytes, pinnedBytes, diskBytes } = adapters.stats();
      this.set({ tier: "host" }, hostBytes);
      this.set({ tier: "pinned" }, pinnedBytes);
      this.set({ tier: "disk" }, diskBytes);
    },
  });
}

const loadBuckets = [
  0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
];
