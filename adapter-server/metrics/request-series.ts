/** What becomes of requests, under vLLM's names, and by adapter under ours. */
import type { Counter, Histogram } from "prom-client";
import type { AdapterLabels } from "../lora/adapter-labels.ts";
import { countBuckets, timeBuckets, tokenBuckets } from "./buckets.ts";
import type { Series } from "./series.ts";

export type Outcome = "stop" | "length" | "abort" | "error";

export type TrackedRequest = {
  /** When it came, by `monotonicMs`; that is before its adapter was loaded. */
  startMs: number;
  adapter: string | undefined;
  /** Counted once, however many choices there are. */
  promptTokens: number;
  /** Of each prompt; 1 when absent. */
  choices?: number;
  /** As the client asked for it. */
  maxTokens?: number | undefined;
};

/** What came of one choice since it was looked at last. */
export type Progress = {
  choice: number;
  tokens: number;
  /** With its first token: tokens of its prompt that were cached, and how long it had waited for its first step. */
  cachedTokens?: number | undefined;
  queuedMs?: number | undefined;
  /** With its last one: how often it had lost its blocks. */
  preemptions?: number | undefined;
};

/** Follows one request; `end` counts once. */
export type RequestTrack = {
  progress(progress: Progress): void;
  end(outcome: Outcome): void;
};

type Choice = {
  firstMs: number;
  lastMs: number;
  tokens: number;
  queuedMs: number;
  cachedTokens: number;
  preemptions: number;
};

export class RequestSeries {
  readonly #adapterLabels: AdapterLabels;
  readonly #monotonicMs: () => number;
  readonly #counts: Record<CountName, Counter<string>>;
  readonly #times: Record<keyof typeof times, Histogram<string>>;
  readonly #sizes: Record<keyof typeof sizes, Histogram<string>>;
  readonly #rejections: Counter<string>;

  constructor(series: Series, parts: { adapterLabels: AdapterLabels; monotonicMs: () => number }) {
    this.#adapterLabels = parts.adapterLabels;
    this.#monotonicMs = parts.monotonicMs;
    const each = <K extends string, T, R>(table: Record<K, T>, make: (entry: T) => R) =>
      Object.fromEntries(
        Object.entries<T>(table).map(([key, entry]) => [key, make(entry)]),
      ) as Record<K, R>;
    this.#counts = each(counts, ([name, help, labelNames]) =>
      series.counter(name, { help, labelNames }),
    );
    this.#times = each(times, ([name, help, buckets]) => series.histogram(name, { help, buckets }));
    this.#sizes = each(sizes, ([name, help, buckets]) => series.histogram(name, { help, buckets }));
    this.#rejections = series.counter("vllm:admission_rejections_total", {
      help: "Requests that were told to come back because a queue was full.",
      labelNames: ["reason"],
    });
    this.#rejections.inc({ reason: "max_num_queued_reqs" }, 0);
    for (const reason of ["stop", "length", "abort", "error"]) {
      this.#counts.requests.inc({ finished_reason: reason }, 0);
    }
    for (const source of ["local_compute", "local_cache_hit"]) {
      this.#counts.promptTokensBySource.inc({ source }, 0);
    }
  }

  /** A queue was full. */
  rejected(): void {
    this.#rejections.inc({ reason: "max_num_queued_reqs" });
  }

  /** The request has its weights and goes to the engine. */
  begin(request: TrackedRequest): RequestTrack {
    const beganMs = this.#monotonicMs();
    const adapter =
      request.adapter === undefined ? "" : this.#adapterLabels.bounded(request.adapter);
    const choices = new Map<number, Choice>();
    let ended = false;
    this.#counts.promptTokens.inc(request.promptTokens);
    this.#counts.adapterPromptTokens.inc({ adapter }, request.promptTokens);
    return {
      progress: (progress) => {
        const nowMs = this.#monotonicMs();
        const known = choices.get(progress.choice);
        const one = known ?? newChoice(nowMs);
        if (!known && choices.size === 0 && progress.tokens > 0) {
          this.#times.firstToken.observe((nowMs - request.startMs) / 1000);
        }
        choices.set(progress.choice, one);
        this.#advance(one, progress, { nowMs, isFirst: !known, adapter });
      },
      end: (outcome) => {
        if (ended) return;
        ended = true;
        const all = [...choices.entries()];
        const seconds = (this.#monotonicMs() - request.startMs) / 1000;
        this.#counts.requests.inc({ finished_reason: outcome });
        this.#counts.adapterRequests.inc({ adapter, finished_reason: outcome });
        this.#counts.adapterSeconds.inc({ adapter }, seconds);
        this.#times.request.observe(seconds);
        this.#measureRequest(request, all);
        for (const [, one] of all) this.#measureChoice(one, { beganMs, adapter });
      },
    };
  }

  #advance(
    one: Choice,
    { tokens, cachedTokens, queuedMs, preemptions }: Progress,
    { nowMs, isFirst, adapter }: { nowMs: number; isFirst: boolean; adapter: string },
  ): void {
    one.cachedTokens = cachedTokens ?? one.cachedTokens;
    one.queuedMs = queuedMs ?? one.queuedMs;
    one.preemptions = preemptions ?? one.preemptions;
    if (tokens === 0) return;
    if (!isFirst) this.#times.interToken.observe((nowMs - one.lastMs) / 1000 / tokens);
    one.lastMs = nowMs;
    one.tokens += tokens;
    this.#counts.generatedTokens.inc(tokens);
    this.#counts.adapterTokens.inc({ adapter }, tokens);
  }

  #measureRequest(request: TrackedRequest, all: readonly [number, Choice][]): void {
    const { promptTokens, choices = 1, maxTokens } = request;
    this.#sizes.choices.observe(choices);
    if (maxTokens !== undefined) this.#sizes.maxTokens.observe(maxTokens);
    if (all.length === 0) return;
    // The first choice of each prompt computes it, the others go on from there.
    const cached = all.reduce(
      (sum, [choice, one]) => (choice % choices === 0 ? sum + one.cachedTokens : sum),
      0,
    );
    this.#sizes.promptTokens.observe(promptTokens);
    this.#sizes.computedTokens.observe(promptTokens - cached);
    this.#sizes.mostTokens.observe(Math.max(...all.map(([, { tokens }]) => tokens)));
    this.#counts.promptTokensBySource.inc({ source: "local_compute" }, promptTokens - cached);
    this.#counts.promptTokensBySource.inc({ source: "local_cache_hit" }, cached);
    this.#counts.cachedTokens.inc(cached);
  }

  #measureChoice(one: Choice, { beganMs, adapter }: { beganMs: number; adapter: string }): void {
    const queued = one.queuedMs / 1000;
    const prefill = Math.max(0, (one.firstMs - beganMs) / 1000 - queued);
    const decode = (one.lastMs - one.firstMs) / 1000;
    this.#times.queue.observe(queued);
    this.#times.prefill.observe(prefill);
    this.#times.decode.observe(decode);
    this.#times.inference.observe(prefill + decode);
    this.#sizes.generatedTokens.observe(one.tokens);
    this.#sizes.preemptions.observe(one.preemptions);
    if (one.tokens > 1) this.#times.perToken.observe(decode / (one.tokens - 1));
    this.#counts.adapterQueueSeconds.inc({ adapter }, queued);
    this.#counts.adapterEngineSeconds.inc({ adapter }, prefill + decode);
  }
}

function newChoice(nowMs: number): Choice {
  return { firstMs: nowMs, lastMs: nowMs, tokens: 0, queuedMs: 0, cachedTokens: 0, preemptions: 0 };
}

type Count = [name: string, help: string, labelNames: readonly string[]];

const counts = {
  requests: ["vllm:request_success_total", "Requests that ended, by how.", ["finished_reason"]],
  promptTokens: ["vllm:prompt_tokens_total", "Tokens of prompts.", []],
  promptTokensBySource: [
    "vllm:prompt_tokens_by_source_total",
    "Tokens of prompts that ended, by where their keys and values came from.",
    ["source"],
  ],
  cachedTokens: ["vllm:prompt_tokens_cached_total", "Of these, tokens that were cached.", []],
  generatedTokens: ["vllm:generation_tokens_total", "Tokens generated.", []],
  adapterRequests: [
    "switchyard_adapter_requests_total",
    "Requests by adapter; empty is the base.",
    ["adapter", "finished_reason"],
  ],
  adapterPromptTokens: [
    "switchyard_adapter_prompt_tokens_total",
    "Tokens of prompts by adapter; empty is the base.",
    ["adapter"],
  ],
  adapterTokens: [
    "switchyard_adapter_generation_tokens_total",
    "Tokens generated by adapter; empty is the base.",
    ["adapter"],
  ],
  adapterSeconds: [
    "switchyard_adapter_request_seconds_total",
    "From requests to their ends, by adapter; empty is the base.",
    ["adapter"],
  ],
  adapterQueueSeconds: [
    "switchyard_adapter_queue_seconds_total",
    "From sequences' arrivals in the engine to their first steps, by adapter; empty is the base.",
    ["adapter"],
  ],
  adapterEngineSeconds: [
    "switchyard_adapter_engine_seconds_total",
    "From sequences' first steps to their last tokens, by adapter; empty is the base.",
    ["adapter"],
  ],
} as const satisfies Record<string, Count>;
type CountName = keyof typeof counts;

type Measure = [name: string, help: string, buckets: readonly number[]];

const times = {
  firstToken: [
    "vllm:time_to_first_token_seconds",
    "From a request to its first token.",
    timeBuckets.firstToken,
  ],
  interToken: [
    "vllm:inter_token_latency_seconds",
    "Between tokens of one choice.",
    timeBuckets.perToken,
  ],
  perToken: [
    "vllm:request_time_per_output_token_seconds",
    "The same, averaged over each choice.",
    timeBuckets.perToken,
  ],
  request: ["vllm:e2e_request_latency_seconds", "From a request to its end.", timeBuckets.request],
  queue: [
    "vllm:request_queue_time_seconds",
    "From a sequence's arrival in the engine to its first step.",
    timeBuckets.request,
  ],
  prefill: [
    "vllm:request_prefill_time_seconds",
    "From a sequence's first step to its first token.",
    timeBuckets.request,
  ],
  decode: [
    "vllm:request_decode_time_seconds",
    "From a sequence's first token to its last.",
    timeBuckets.request,
  ],
  inference: [
    "vllm:request_inference_time_seconds",
    "From a sequence's first step to its last token.",
    timeBuckets.request,
  ],
} satisfies Record<string, Measure>;

const sizes = {
  promptTokens: ["vllm:request_prompt_tokens", "Tokens of prompts.", tokenBuckets.ofRequests],
  computedTokens: [
    "vllm:request_prefill_kv_computed_tokens",
    "Tokens of prompts that were not cached.",
    tokenBuckets.ofRequests,
  ],
  generatedTokens: [
    "vllm:request_generation_tokens",
    "Tokens of each choice.",
    tokenBuckets.ofRequests,
  ],
  mostTokens: [
    "vllm:request_max_num_generation_tokens",
    "Tokens of a request's longest choice.",
    tokenBuckets.ofRequests,
  ],
  choices: ["vllm:request_params_n", "Choices that were asked for.", countBuckets.choices],
  maxTokens: [
    "vllm:request_params_max_tokens",
    "Tokens that an answer was allowed, where a request said it.",
    tokenBuckets.ofRequests,
  ],
  preemptions: [
    "vllm:request_num_preemptions",
    "How often a sequence lost its blocks to others.",
    countBuckets.preemptions,
  ],
} satisfies Record<string, Measure>;
