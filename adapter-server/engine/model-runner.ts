/** Runs the decoder graph: each call through the graph that it takes, over one pool of keys and values. */
import { dirname, join } from "node:path";
import {
  type AdapterKind,
  type GraphWeights,
  graphFileName,
  type KeyValueType,
} from "../models/graph-files.ts";
import type { ModelGraph } from "../models/import-model.ts";
import { blocksOf } from "../models/token-blocks.ts";
import { hasGains } from "./adapter-slots.ts";
import { type CallResult, GraphCalls, type Graphs, openGraphs, slotsOf } from "./graph-calls.ts";
import { GraphThread, type GraphWorkerOptions, type SlotCopy } from "./graph-thread.ts";
import { KeyValuePool } from "./key-value-pool.ts";
import { NativeWeights } from "./native-weights.ts";
import { sessionOptions } from "./session-options.ts";
import { countSamples } from "./step-feeds.ts";
import { countTokens } from "./step-plan.ts";
import type { TokenWeights, WeighedRow } from "./token-weights.ts";
import type { CallTimes, ModelDims, ModelRunner, PackedAdapter, StepRow } from "./types.ts";

export type ModelRunnerOptions = {
  model: ModelGraph;
  /** Blocks of the key/value pool. */
  blocks: number;
  /** Adapter slots beside slot 0. */
  slots: number;
  rankMax: number;
  /** How keys and values are cached; `f32` when absent. */
  keyValues?: KeyValueType;
  /** Threads of one native call. */
  threads: number;
};

/**
 * Opens the model. Calls block the thread that makes them, so the runner belongs in a worker thread,
 * which imports this module by its address and looks for this name.
 * @throws when the graph cannot be opened
 */
export async function createRunner(options: ModelRunnerOptions): Promise<ModelRunner> {
  const { model, blocks, threads, keyValues: type = "f32" } = options;
  const pathOf = (adapters: AdapterKind, weights: GraphWeights = "main") =>
    join(dirname(model.graphPath), graphFileName({ adapters, keyValues: type, weights }));
  const usual: GraphPaths = { lora: pathOf("lora"), none: pathOf("none") };
  if (model.singleStream) {
    usual["single-lora"] = pathOf("lora", "single");
    usual["single-none"] = pathOf("none", "single");
  }
  const graphs = await openGraphs(usual, await sessionOptions(threads));
  const paths = { ...usual, dora: pathOf("dora") };
  const weights = await NativeWeights.open(model.dims.vocabSize, threads);
  const { dims, blockSize } = model;
  const pool = { dims, blocks, blockSize, type };
  const { slots, rankMax } = options;
  return new OnnxModelRunner(graphs, weights, { paths, threads, pool, slots, rankMax });
}

type GraphPaths = GraphWorkerOptions["paths"];

/** Computes by itself, until a graph is needed that few servers need; from then on a thread that has it computes. */
class OnnxModelRunner implements ModelRunner {
  readonly dims: ModelDims;
  readonly blockSize: number;
  readonly blocks: number;
  readonly slots: number;
  readonly rankMax: number;
  readonly hasSingleWeights: boolean;
  lastCalls: CallTimes = {};
  readonly #options: GraphWorkerOptions;
  readonly #weights: NativeWeights;
  /** By logits that were returned. */
  readonly #peaks = new WeakMap<Float32Array, Float32Array>();
  /** By row that wanted them. */
  readonly #states = new WeakMap<StepRow, Float32Array>();
  /** Absent once the thread computes. */
  #own: OwnCalls | undefined;
  /** Opened, or being opened. */
  #thread: Promise<GraphThread> | undefined;
  /** Once it is opened. */
  #opened: GraphThread | undefined;

  constructor(graphs: Graphs, weights: NativeWeights, options: GraphWorkerOptions) {
    const { dims, blocks, blockSize } = options.pool;
    this.dims = dims;
    this.blockSize = blockSize;
    this.blocks = blocks;
    this.slots = options.slots;
    this.rankMax = options.rankMax;
    this.hasSingleWeights = graphs["single-none"] !== undefined;
    this.#options = options;
    this.#weights = weights;
    this.#own = new OwnCalls(graphs, options);
  }

  async run(decode: readonly StepRow[], prefill: readonly StepRow[]): Promise<Float32Array[]> {
    this.lastCalls = {};
    const results: Float32Array[] = [];
    for (const [kind, rows] of Object.entries({ decode, prefill })) {
      if (rows.length === 0) continue;
      const startedAtMs = performance.now();
      results.push(...(await this.#call(rows)));
      const ms = performance.now() - startedAtMs;
      this.lastCalls[kind as keyof CallTimes] = { tokens: countTokens(rows), ms };
    }
    return results;
  }

  weigh(rows: readonly WeighedRow[]): Promise<TokenWeights[]> {
    return this.#weights.weigh(rows);
  }

  peaksOf(logits: Float32Array): Float32Array | undefined {
    return this.#peaks.get(logits);
  }

  statesOf(row: StepRow): Float32Array | undefined {
    return this.#states.get(row);
  }

  copyBlock(from: number, to: number): void {
    if (this.#own) this.#own.pool.copy(from, to);
    else this.#opened?.copyBlock(from, to);
  }

  loadSlot(slot: number, adapter: PackedAdapter): void {
    if (this.#own) this.#own.calls.adapters.load(slot, adapter);
    else this.#opened?.load(slot, adapter);
  }

  clearSlot(slot: number): void {
    if (this.#own) this.#own.calls.adapters.clear(slot);
    else this.#opened?.clear(slot);
  }

  expectAdapter(adapter: PackedAdapter): Promise<void> | undefined {
    if (!hasGains(adapter) || this.#opened) return undefined;
    return this.#openThread().then(() => {});
  }

  takeSlotLoads(): SlotCopy[] {
    return [
      ...(this.#own?.calls.adapters.takeLoads() ?? []),
      ...(this.#opened?.takeCopies() ?? []),
    ];
  }

  async close(): Promise<void> {
    // What is being opened has to be there before it can be closed.
    const thread = await this.#thread?.catch(() => undefined);
    await Promise.all([this.#own?.close(), thread?.close(), this.#weights.close()]);
  }

  /** Several who need it open it once; where it failed, the next one tries again. */
  #openThread(): Promise<GraphThread> {
    this.#thread ??= GraphThread.open(this.#options).then(
      (thread) => {
        this.#opened = thread;
        return thread;
      },
      (error: unknown) => {
        this.#thread = undefined;
        throw error;
      },
    );
    return this.#thread;
  }

  async #call(rows: readonly StepRow[]): Promise<Float32Array[]> {
    const { logits: values, peaks, states } = await this.#compute(rows);
    this.#keepStates(rows, states);
    const { vocabSize } = this.dims;
    const blocks = blocksOf(vocabSize);
    return Array.from({ length: countSamples(rows) }, (_, index) => {
      const logits = values.subarray(index * vocabSize, (index + 1) * vocabSize);
      this.#peaks.set(logits, peaks.subarray(index * blocks, (index + 1) * blocks));
      return logits;
    });
  }

  async #compute(rows: readonly StepRow[]): Promise<CallResult> {
    const own = this.#own;
    if (own?.calls.adapters.haveGains(slotsOf(rows))) await this.#openThread();
    if (!this.#opened) return own!.calls.run(rows);
    if (own) {
      this.#opened.begin(own.pool.data, own.calls.adapters.loaded());
      this.#own = undefined;
      await own.close();
    }
    return this.#opened.run(rows);
  }

  #keepStates(rows: readonly StepRow[], values: Float32Array): void {
    let from = 0;
    for (const row of rows) {
      if (!row.states) continue;
      const to = from + row.states * this.dims.hiddenSize;
      this.#states.set(row, values.subarray(from, to));
      from = to;
    }
  }
}

/** Calls that are computed in this thread. */
class OwnCalls {
  readonly pool: KeyValuePool;
  readonly calls: GraphCalls;
  readonly #graphs: Graphs;

  constructor(graphs: Graphs, { pool, slots, rankMax }: GraphWorkerOptions) {
    this.#graphs = graphs;
    this.pool = new KeyValuePool(pool);
    this.calls = new GraphCalls({ ...pool, graphs, pool: this.pool, slots, rankMax });
  }

  async close(): Promise<void> {
    await Promise.all(Object.values(this.#graphs).map((graph) => graph.close()));
  }
}
