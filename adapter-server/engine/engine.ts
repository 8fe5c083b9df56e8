/** The engine as the main thread sees it: a worker that decodes, is watched, and is started anew when it dies. */
import type { Worker } from "node:worker_threads";
import { HubError, invariant } from "../../sdk/protocol/errors.ts";
import type { Grammar } from "../output/grammar/matchers.ts";
import { startWorker } from "../start-worker.ts";
import { hasGains } from "./adapter-slots.ts";
import { rowsOfStepMax } from "./admission.ts";
import { type CallRecord, createCallRecord, readCallRecord } from "./call-record.ts";
import type { GrammarMasksOptions } from "./grammar-masks.ts";
import type { PromptLogprobs, TokenLogprobs } from "./logprobs.ts";
import type {
  CoreStats,
  EngineFacts,
  FromWorker,
  RunnerModule,
  SequenceOutput,
  SlotEvent,
  ToWorker,
  WireError,
  WorkerOptions,
} from "./messages.ts";
import { fromWireError } from "./messages.ts";
import type { Pooling } from "./pooling.ts";
import type { Sampling } from "./sampler.ts";
import type { SchedulerLimits } from "./scheduler.ts";
import { noStats } from "./scheduler-stats.ts";
import type { FinishReason, SequenceRequest } from "./sequence.ts";
import { type Subject, Suspects } from "./suspects.ts";
import type { PackedAdapter } from "./types.ts";

export type EngineOptions = {
  runner: RunnerModule;
  limits: SchedulerLimits;
  /** Whether sequences use what is computed already of others that began alike. */
  prefixCache: boolean;
  /** What grammars are matched over; absent where there are none. */
  grammars?: GrammarMasksOptions | undefined;
  /** Starts that may fail one after the other before the engine is left down for a while. */
  restartsMax: number;
  /** How long it is left down before it is tried again. */
  downMs: number;
  /** Hears what went wrong and does not reach a client in detail. */
  onFault: (message: string, cause: unknown) => void;
};

export type GenerateRequest = {
  prompt: readonly number[];
  maxTokens: number;
  sampling: Sampling;
  /** What the output has to match, up to its end. */
  grammar?: Grammar | undefined;
  /** How many of the likeliest tokens to tell with each token; absent tells no log-probabilities at all. */
  logprobs?: number | undefined;
  /** The same of each token of the prompt but the first. */
  promptLogprobs?: number | undefined;
  stopIds: readonly number[];
  /** Digest of an adapter that was loaded; absent for the base. */
  adapter?: string | undefined;
  tenant: string;
  /** Lower is earlier; 0 when absent. */
  priority?: number;
  /** After how long without an end it is ended with `deadline_exceeded`. */
  timeoutMs?: number | undefined;
  signal?: AbortSignal | undefined;
};

export type EmbedRequest = Pick<
  GenerateRequest,
  "prompt" | "adapter" | "tenant" | "timeoutMs" | "signal"
> & { pooling: Pooling };

/** What a prompt's hidden states were pooled to, `[hiddenSize]`, of any length. */
export type Embedded = {
  embedding: Float32Array;
  /** Digest of the adapter that sat in the slot. */
  adapter?: string | undefined;
  cachedTokens: number;
  /** How long it waited for its first step. */
  queuedMs: number;
};

/** Tokens that came since the last batch; the last batch has `finish`. */
export type TokenBatch = {
  tokens: number[];
  /** One for each token, when the request asks for them. */
  logprobs?: TokenLogprobs[];
  /** In the first batch, when they were asked for: of the prompt's second token and those behind it. */
  promptLogprobs?: readonly PromptLogprobs[];
  finish?: FinishReason;
  /** In the first batch: digest of the adapter that sat in the slot. */
  adapter?: string;
  /** In the first batch: tokens of the prompt that were cached. */
  cachedTokens?: number;
  /** In the first batch: how long it waited for its first step. */
  queuedMs?: number;
  /** In the last batch, unless it is none: how often it lost its blocks. */
  preemptions?: number;
  /** In the last batch of a sequence that is pooled. */
  embedding?: Float32Array;
};

export type EngineStats = Omit<CoreStats, "slotEvents" | "stepTokens"> & {
  restarts: number;
  ready: boolean;
};

export type Engine = {
  readonly facts: EngineFacts;
  /**
   * Decodes one sequence. Leaving the loop, or the signal, cancels it.
   * @throws HubError `server_is_overloaded`, `request_cancelled`, `upstream_unavailable` when the
   *   engine died meanwhile, `request_quarantined` when it dies of this very request, `internal_error`
   *   when this sequence could not be computed
   */
  generate(request: GenerateRequest): AsyncGenerator<TokenBatch, void, void>;
  /** Several answers to one prompt, which is computed once, each with draws of its own (`sampling.stream`). */
  generateEach(request: GenerateRequest, choices: number): AsyncGenerator<TokenBatch, void, void>[];
  /**
   * Pools a prompt's hidden states; the signal cancels it.
   * @throws HubError as `generate` does
   */
  embed(request: EmbedRequest): Promise<Embedded>;
  /**
   * Makes an adapter known; its weights must lie in shared memory. Known ones are left as they are. Resolves when sequences
   * can use it: at once, unless it takes what is not open yet. Others run on meanwhile.
   * @throws HubError `upstream_unavailable`, `internal_error` when that cannot be opened; then nothing reads the weights
   */
  loadAdapter(adapter: PackedAdapter): Promise<void>;
  /** Forgets an adapter once the sequences that use it are done; resolves when nothing reads its weights any more. */
  unloadAdapter(digest: string): Promise<void>;
  /** Whether the adapter, once it has a slot, keeps it; fewer may be pinned than there are slots. */
  pinAdapter(digest: string, pinned: boolean): void;
  /** As the worker told them last: at most a tenth of a second ago, and a step. */
  stats(): EngineStats;
  /** Tells of adapters that come into slots and make way for others. */
  onSlotEvent(listener: (event: SlotEvent) => void): void;
  /** Tells of steps, some at a time: how many tokens each computed. */
  onSteps(listener: (tokens: readonly number[]) => void): void;
  close(): Promise<void>;
};

/** Starts the worker and resolves when its model is ready. */
export async function startEngine(options: EngineOptions): Promise<Engine> {
  const engine = new WorkerEngine(options);
  await engine.started;
  return engine;
}

class WorkerEngine implements Engine {
  readonly #options: EngineOptions;
  readonly #streams = new Map<number, TokenStream>();
  readonly #suspects = new Suspects();
  readonly #callRecord: CallRecord;
  readonly #adapters = new Map<string, PackedAdapter>();
  /** Adapters that cannot be used yet, and who waits for them. */
  readonly #loading = new Map<string, Pending>();
  readonly #pinned = new Set<string>();
  /** Adapters that the worker was told to forget; the oldest first. */
  readonly #forgetting: { digest: string; resolve: () => void }[] = [];
  readonly started: Promise<void>;
  #worker: Worker;
  #facts: EngineFacts | undefined;
  #stats: CoreStats = noCoreStats;
  readonly #slotListeners: ((event: SlotEvent) => void)[] = [];
  readonly #stepListeners: ((tokens: readonly number[]) => void)[] = [];
  #state: "starting" | "ready" | "down" | "closed" = "starting";
  #nextId = 1;
  #nextFamily = 1;
  #restarts = 0;
  #failedStarts = 0;
  #revival: NodeJS.Timeout | undefined;
  #onReady = () => {};
  #onDown: (error: Error) => void = () => {};

  constructor(options: EngineOptions) {
    this.#options = options;
    this.#callRecord = createCallRecord(rowsOfStepMax(options.limits));
    this.started = new Promise((resolve, reject) => {
      this.#onReady = resolve;
      this.#onDown = reject;
    });
    this.#worker = this.#spawn();
  }

  get facts(): EngineFacts {
    invariant(this.#facts, "an engine is handed out when it is ready");
    return this.#facts;
  }

  generate({ signal, ...sequence }: GenerateRequest): AsyncGenerator<TokenBatch, void, void> {
    return this.#follow(sequence, signal);
  }

  generateEach(
    { signal, ...sequence }: GenerateRequest,
    choices: number,
  ): AsyncGenerator<TokenBatch, void, void>[] {
    const family = choices > 1 ? this.#nextFamily++ : undefined;
    return Array.from({ length: choices }, (_, stream) => {
      const sampling = { ...sequence.sampling, stream };
      const promptLogprobs = stream === 0 ? sequence.promptLogprobs : undefined;
      return this.#follow({ ...sequence, promptLogprobs, sampling, family }, signal);
    });
  }

  async embed({ signal, ...asked }: EmbedRequest): Promise<Embedded> {
    const sequence = { ...asked, maxTokens: 0, sampling: unsampled, stopIds: [] };
    for await (const { embedding, adapter, cachedTokens = 0, queuedMs = 0 } of this.#follow(
      sequence,
      signal,
    )) {
      if (embedding) return { embedding, adapter, cachedTokens, queuedMs };
    }
    throw new Error("a sequence that is pooled ends with its vector");
  }

  async *#follow(
    sequence: Omit<SequenceRequest, "id">,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<TokenBatch, void, void> {
    if (signal?.aborted) throw cancelled();
    this.#refuseWhenDown();
    const apart = this.#suspects.isAccused(sequence);
    const id = this.#nextId++;
    const stream = new TokenStream(sequence);
    const cancel = () => {
      if (!stream.isDone) this.#tell({ type: "cancel", id });
      stream.fail(cancelled());
    };
    this.#streams.set(id, stream);
    signal?.addEventListener("abort", cancel);
    try {
      this.#tell({ type: "add", request: { id, ...sequence, apart } });
      for (;;) {
        const batch = await stream.next();
        if (batch.finish !== undefined) this.#suspects.clear(sequence);
        yield batch;
        if (batch.finish !== undefined) return;
      }
    } finally {
      signal?.removeEventListener("abort", cancel);
      this.#streams.delete(id);
      cancel();
    }
  }

  async loadAdapter(adapter: PackedAdapter): Promise<void> {
    const { digest } = adapter;
    if (this.#adapters.has(digest)) return this.#loading.get(digest)?.promise;
    // The worker opens what others take before it takes anything else up.
    const takesMore = hasGains(adapter);
    if (takesMore) this.#refuseWhenDown();
    this.#adapters.set(digest, adapter);
    this.#tell({ type: "adapter", adapter });
    if (!takesMore) return;
    const load = pending();
    this.#loading.set(digest, load);
    return load.promise;
  }

  async unloadAdapter(digest: string): Promise<void> {
    if (!this.#adapters.delete(digest)) return;
    this.#failLoad(digest, new HubError("model_not_found", "The adapter was unloaded meanwhile."));
    // Without a worker nothing reads, and nobody would answer.
    if (this.#state === "down" || this.#state === "closed") return;
    this.#tell({ type: "forget", digest });
    await new Promise<void>((resolve) => {
      this.#forgetting.push({ digest, resolve });
    });
  }

  pinAdapter(digest: string, pinned: boolean): void {
    if (pinned === this.#pinned.has(digest)) return;
    if (pinned) this.#pinned.add(digest);
    else this.#pinned.delete(digest);
    this.#tell({ type: "pin", digest, pinned });
  }

  stats(): EngineStats {
    return { ...this.#stats, restarts: this.#restarts, ready: this.#state === "ready" };
  }

  onSlotEvent(listener: (event: SlotEvent) => void): void {
    this.#slotListeners.push(listener);
  }

  onSteps(listener: (tokens: readonly number[]) => void): void {
    this.#stepListeners.push(listener);
  }

  async close(): Promise<void> {
    if (this.#state === "closed") return;
    const wasDown = this.#state === "down";
    this.#state = "closed";
    clearTimeout(this.#revival);
    this.#failAll(shuttingDown());
    this.#failLoads(shuttingDown());
    if (wasDown) return;
    const gone = new Promise((resolve) => this.#worker.once("exit", resolve));
    this.#tell({ type: "close" });
    await gone;
  }

  #tell(message: ToWorker): void {
    this.#worker.postMessage(message);
  }

  #refuseWhenDown(): void {
    if (this.#state === "closed") throw shuttingDown();
    if (this.#state === "down") throw isDown();
    // While the worker starts, nobody bounds its queue but we.
    if (this.#state === "starting" && this.#streams.size >= this.#options.limits.waitingMax) {
      throw new HubError("server_is_overloaded", "The engine is starting and its queue is full.", {
        retryAfterMs: 1000,
      });
    }
  }

  #spawn(): Worker {
    const { runner, limits, prefixCache, grammars } = this.#options;
    const callRecord = this.#callRecord;
    const workerData: WorkerOptions = { runner, limits, prefixCache, grammars, callRecord };
    const worker = startWorker(new URL("./worker.ts", import.meta.url), { workerData });
    let fault: unknown;
    worker.on("message", (message: FromWorker) => this.#hear(message));
    worker.on("error", (error) => {
      fault = error;
    });
    worker.on("exit", (code) =>
      this.#onExit(fault ?? new Error(`the worker left with code ${code}`)),
    );
    return worker;
  }

  #hear(message: FromWorker): void {
    switch (message.type) {
      case "ready":
        this.#facts = message.facts;
        this.#failedStarts = 0;
        if (this.#state === "starting") this.#state = "ready";
        this.#onReady();
        return;
      case "outputs":
        for (const output of message.outputs) this.#deliver(output);
        return;
      case "known":
        void this.#known(message.digest, message.error);
        return;
      case "forgotten":
        this.#forgotten(message.digest);
        return;
      case "stats":
        this.#stats = message.stats;
        for (const listener of this.#stepListeners) listener(message.stats.stepTokens);
        for (const event of message.stats.slotEvents) {
          for (const listener of this.#slotListeners) listener(event);
        }
        return;
      default:
        message satisfies never;
    }
  }

  #deliver(output: SequenceOutput): void {
    const stream = this.#streams.get(output.id);
    if (!stream) return;
    if (output.error) {
      const error = fromWireError(output.error);
      if (error.cause !== undefined) this.#options.onFault("a sequence failed", error.cause);
      stream.fail(error);
    } else {
      stream.push(output);
    }
  }

  /** The worker is gone. Unless we closed it, what ran fails, and a new worker gets all adapters. */
  #onExit(cause: unknown): void {
    for (const { resolve } of this.#forgetting.splice(0)) resolve();
    if (this.#state === "closed") return;
    this.#options.onFault("the engine's worker died", cause);
    this.#stats = { ...noCoreStats, slots: this.#stats.slots.map(() => undefined) };
    this.#accuseThoseInTheCall();
    this.#failAll(
      unavailable(
        "The engine stopped while it worked on this request and is started again.",
        cause,
      ),
    );
    if (this.#state === "starting") this.#failedStarts++;
    const neverWorked = this.#facts === undefined;
    if (neverWorked || this.#failedStarts > this.#options.restartsMax) {
      this.#state = "down";
      this.#failLoads(isDown());
      this.#onDown(new Error("the engine could not be started", { cause }));
      // What kept it from starting, such as memory that others used, may pass.
      if (!neverWorked) this.#revival = setTimeout(() => this.#restart(), this.#options.downMs);
      return;
    }
    this.#restart();
  }

  #restart(): void {
    this.#restarts++;
    this.#state = "starting";
    this.#worker = this.#spawn();
    for (const adapter of this.#adapters.values()) this.#tell({ type: "adapter", adapter });
    for (const digest of this.#pinned) this.#tell({ type: "pin", digest, pinned: true });
  }

  /** An adapter that cannot be used fails its load. One that was loaded before is tried again when a sequence asks for it. */
  async #known(digest: string, wireError: WireError | undefined): Promise<void> {
    const load = this.#loading.get(digest);
    this.#loading.delete(digest);
    if (!wireError) {
      load?.resolve();
      return;
    }
    const error = fromWireError(wireError);
    this.#options.onFault("an adapter cannot be used", error.cause ?? error);
    if (!load) return;
    await this.unloadAdapter(digest);
    load.reject(error);
  }

  #failLoad(digest: string, error: HubError): void {
    const load = this.#loading.get(digest);
    this.#loading.delete(digest);
    load?.reject(error);
  }

  /** Without a worker nobody knows when these could be used; who needs them loads them again. */
  #failLoads(error: HubError): void {
    for (const digest of [...this.#loading.keys()]) {
      this.#adapters.delete(digest);
      this.#failLoad(digest, error);
    }
  }

  #forgotten(digest: string): void {
    const index = this.#forgetting.findIndex((one) => one.digest === digest);
    const [done] = index === -1 ? [] : this.#forgetting.splice(index, 1);
    done?.resolve();
  }

  #accuseThoseInTheCall(): void {
    const streams = readCallRecord(this.#callRecord).map((id) => this.#streams.get(id));
    this.#callRecord[0] = 0;
    this.#suspects.accuse(streams.flatMap((stream) => (stream ? [stream.subject] : [])));
  }

  #failAll(error: HubError): void {
    for (const stream of this.#streams.values()) stream.fail(error);
  }
}

/** Hands tokens from the worker's messages to one reader, several at once when the reader is slow. */
class TokenStream {
  #batch: TokenBatch | undefined;
  #error: HubError | undefined;
  #wake: (() => void) | undefined;
  /** The worker has nothing more to do for it. */
  isDone = false;
  readonly subject: Subject;

  constructor(subject: Subject) {
    this.subject = subject;
  }

  push(output: SequenceOutput): void {
    this.#batch ??= { tokens: [] };
    if (output.token !== undefined) this.#batch.tokens.push(output.token);
    if (output.logprobs !== undefined) {
      this.#batch.logprobs ??= [];
      this.#batch.logprobs.push(output.logprobs);
    }
    if (output.promptLogprobs !== undefined) this.#batch.promptLogprobs = output.promptLogprobs;
    if (output.adapter !== undefined) this.#batch.adapter = output.adapter;
    if (output.cachedTokens !== undefined) this.#batch.cachedTokens = output.cachedTokens;
    if (output.queuedMs !== undefined) this.#batch.queuedMs = output.queuedMs;
    if (output.preemptions !== undefined) this.#batch.preemptions = output.preemptions;
    if (output.embedding !== undefined) this.#batch.embedding = output.embedding;
    if (output.finish !== undefined) {
      this.#batch.finish = output.finish;
      this.isDone = true;
    }
    this.#wake?.();
  }

  /** What came whole is read to its end, whatever becomes of the engine meanwhile. */
  fail(error: HubError): void {
    if (this.isDone) return;
    this.#error ??= error;
    this.isDone = true;
    this.#wake?.();
  }

  async next(): Promise<TokenBatch> {
    for (;;) {
      if (this.#error) throw this.#error;
      if (this.#batch) {
        const batch = this.#batch;
        this.#batch = undefined;
        return batch;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

function cancelled(): HubError {
  return new HubError("request_cancelled", "The client closed the request.");
}

function shuttingDown(): HubError {
  return new HubError("shutting_down", "The server is shutting down.");
}

function isDown(): HubError {
  return unavailable("The engine has stopped, and is started again in a while.");
}

function unavailable(message: string, cause?: unknown): HubError {
  return new HubError("upstream_unavailable", message, { cause, retryAfterMs: 1000 });
}

type Pending = { promise: Promise<void>; resolve: () => void; reject: (error: HubError) => void };

function pending(): Pending {
  let [resolve, reject]: [Pending["resolve"], Pending["reject"]] = [() => {}, () => {}];
  const promise = new Promise<void>((...settle) => {
    [resolve, reject] = settle;
  });
  return { promise, resolve, reject };
}

/** For sequences of which no token is chosen. */
const unsampled: Sampling = {
  ...{ temperature: 0, topP: 1, topK: 0, repetitionPenalty: 1 },
  ...{ seed: 0, stream: 0 },
};

const noCoreStats: CoreStats = { ...noStats, slotEvents: [], stepTokens: [] };
