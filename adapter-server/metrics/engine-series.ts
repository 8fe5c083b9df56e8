/** How the engine stands, under vLLM's names: read when somebody looks. */
import type { EngineStats } from "../engine/engine.ts";
import type { AdapterLabels } from "../lora/adapter-labels.ts";
import { tokenBuckets } from "./buckets.ts";
import type { Series } from "./series.ts";

export type EngineSeriesParts = {
  engineStats: () => EngineStats;
  /** Called with the tokens of each step, some steps at a time. */
  onSteps: (listener: (tokens: readonly number[]) => void) => void;
  adapterLabels: AdapterLabels;
  cache: CacheFacts;
  slots: number;
  nowMs: () => number;
};

/** What the KV cache is. */
export type CacheFacts = {
  blockSize: number;
  /** Blocks that sequences may hold. */
  blocks: number;
  type: string;
  /** Whether prompts that begin alike share blocks. */
  isShared: boolean;
};

export function registerEngineSeries(series: Series, parts: EngineSeriesParts): void {
  const { engineStats, onSteps } = parts;
  series.value("vllm:num_requests_running", "Sequences that decode.", () => engineStats().running);
  series.value("vllm:num_requests_waiting", "Sequences that wait.", () => engineStats().waiting);
  series.gauge(
    "vllm:num_requests_waiting_by_reason",
    {
      help: "Sequences that wait, by what for: 'capacity', or 'deferred' for an adapter slot.",
      labelNames: ["reason"],
    },
    (gauge) => {
      const { waiting, waitingForSlot } = engineStats();
      gauge.set({ reason: "capacity" }, waiting - waitingForSlot);
      gauge.set({ reason: "deferred" }, waitingForSlot);
    },
  );
  series.value("vllm:kv_cache_usage_perc", "Share of KV cache blocks in use, 0 to 1.", () => {
    const { blocksUsed, blocksTotal } = engineStats();
    return blocksTotal === 0 ? 0 : blocksUsed / blocksTotal;
  });
  registerTotals(series, engineStats);
  const steps = series.histogram("vllm:iteration_tokens_total", {
    help: "Tokens that one step computes: of prompts, decoded, and guessed ahead.",
    buckets: tokenBuckets.ofSteps,
  });
  onSteps((all) => {
    for (const tokens of all) steps.observe(tokens);
  });
  registerInfos(series, parts);
}

function registerTotals(series: Series, engineStats: () => EngineStats): void {
  const totals: [string, string, (stats: EngineStats) => number][] = [
    [
      "vllm:prefix_cache_queries_total",
      "Tokens of prompts that were looked for in the prefix cache.",
      (stats) => stats.prefixTokensQueried,
    ],
    [
      "vllm:prefix_cache_hits_total",
      "Of these, tokens that were there.",
      (stats) => stats.prefixTokensHit,
    ],
    [
      "vllm:spec_decode_num_drafts_total",
      "Rows of steps in which tokens were guessed ahead.",
      (stats) => stats.speculation.rows,
    ],
    [
      "vllm:spec_decode_num_draft_tokens_total",
      "Tokens that were guessed.",
      (stats) => stats.speculation.guessed,
    ],
    [
      "vllm:spec_decode_num_accepted_tokens_total",
      "Of these, tokens that the model said as well.",
      (stats) => stats.speculation.held,
    ],
    [
      "vllm:num_preemptions_total",
      "Sequences that lost their blocks to others.",
      (stats) => stats.preemptions,
    ],
    [
      "switchyard_engine_restarts_total",
      "Times that the engine's worker died and was started again.",
      (stats) => stats.restarts,
    ],
  ];
  for (const [name, help, read] of totals) series.total(name, help, () => read(engineStats()));
}

/** Facts as labels, which is how vLLM tells them. */
function registerInfos(series: Series, parts: EngineSeriesParts): void {
  const { engineStats, adapterLabels, cache, slots, nowMs } = parts;
  const names = (digests: string[]) =>
    digests
      .map((digest) => adapterLabels.full(digest))
      .sort()
      .join(",");
  series.gauge(
    "vllm:lora_requests_info",
    {
      help: "Adapters with requests that run and that wait; the value is the time in seconds.",
      labelNames: ["max_lora", "running_lora_adapters", "waiting_lora_adapters"],
    },
    (gauge) => {
      const { runningByAdapter, waitingByAdapter } = engineStats();
      const labels = {
        max_lora: String(slots),
        running_lora_adapters: names(Object.keys(runningByAdapter)),
        waiting_lora_adapters: names(Object.keys(waitingByAdapter)),
      };
      // vLLM keeps every combination for ever and readers take the newest, so only that is here.
      gauge.reset();
      gauge.set(labels, nowMs() / 1000);
    },
  );
  const facts = {
    block_size: String(cache.blockSize),
    num_gpu_blocks: String(cache.blocks),
    kv_cache_size_tokens: String(cache.blocks * cache.blockSize),
    cache_dtype: cache.type,
    // As Python writes it.
    enable_prefix_caching: cache.isShared ? "True" : "False",
  };
  series.gauge(
    "vllm:cache_config_info",
    {
      help: "What the KV cache is: blocks lie in the machine's memory, wherever the name says.",
      labelNames: Object.keys(facts),
    },
    (gauge) => gauge.set(facts, 1),
  );
  series.gauge(
    "vllm:engine_sleep_state",
    { help: "It never sleeps: 'awake' is 1 while it is ready.", labelNames: ["sleep_state"] },
    (gauge) => {
      gauge.set({ sleep_state: "awake" }, engineStats().ready ? 1 : 0);
      gauge.set({ sleep_state: "weights_offloaded" }, 0);
      gauge.set({ sleep_state: "discard_all" }, 0);
    },
  );
}
