/** Runs the decoder graph: feeds a step's rows, stores their keys and values, hands out their logits. */
import { dirname, join } from "node:path";
import ort from "onnxruntime-node";
import { type AdapterKind, graphFileName, type KeyValueType } from "../models/graph-files.ts";
import type { ModelGraph } from "../models/import-model.ts";
import { blocksOf } from "../models/token-blocks.ts";
import { AdapterSlots, hasGains, type SlotRun } from "./adapter-slots.ts";
import { KeyValuePool, type NewKeyValues } from "./key-value-pool.ts";
import { NativeWeights } from "./native-weights.ts";
import { sessionOptions } from "./session-options.ts";
import { countSamples, type Feeds, StepFeeds } from "./step-feeds.ts";
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
  const { model, keyValues = "f32", threads } = options;
  const settings = await sessionOptions(threads);
  const graphs = await Graphs.open(async (adapters) => {
    const path = join(dirname(model.graphPath), graphFileName({ adapters, keyValues }));
    return new Graph(await ort.InferenceSession.create(path, settings));
  });
  const weights = await NativeWeights.open(model.dims.vocabSize, threads);
  return new OnnxModelRunner(graphs, weights, options);
}

class OnnxModelRunner implements ModelRunner {
  readonly dims: ModelDims;
  readonly blockSize: number;
  readonly blocks: number;
  readonly slots: number;
  readonly rankMax: number;
  lastCalls: CallTimes = {};
  readonly #graphs: Graphs;
  readonly #weights: NativeWeights;
  /** By logits that were returned. */
  readonly #peaks = new WeakMap<Float32Array, Float32Array>();
  /** By row that wanted them. */
  readonly #states = new WeakMap<StepRow, Float32Array>();
  readonly #pool: KeyValuePool;
  readonly #adapters: AdapterSlots;
  readonly #feeds: StepFeeds;
  /** Tensors over adapters of the runs last used; a steady mixture makes none anew. */
  readonly #loraTensors = new Map<string, Record<string, ort.Tensor>>();
  #loraLayout = -1;

  constructor(graphs: Graphs, weights: NativeWeights, options: ModelRunnerOptions) {
    const { dims, blockSize } = options.model;
    this.dims = dims;
    this.blockSize = blockSize;
    this.blocks = options.blocks;
    this.slots = options.slots;
    this.rankMax = options.rankMax;
    this.#graphs = graphs;
    this.#weights = weights;
    const { blocks, keyValues: type = "f32" } = options;
    this.#pool = new KeyValuePool({ dims, blocks, blockSize, type });
    this.#adapters = new AdapterSlots({ dims, slots: options.slots, rankMax: options.rankMax });
    this.#feeds = new StepFeeds({ dims, blockSize, pool: this.#pool });
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
    this.#pool.copy(from, to);
  }

  loadSlot(slot: number, adapter: PackedAdapter): void {
    this.#adapters.load(slot, adapter);
  }

  clearSlot(slot: number): void {
    this.#adapters.clear(slot);
  }

  async expectAdapter(adapter: PackedAdapter): Promise<void> {
    if (hasGains(adapter)) await this.#graphs.of("dora");
  }

  takeSlotLoads(): { digest: string; ms: number }[] {
    return this.#adapters.takeLoads();
  }

  async close(): Promise<void> {
    await Promise.all([this.#graphs.close(), this.#weights.close()]);
  }

  async #call(rows: readonly StepRow[]): Promise<Float32Array[]> {
    const slots = [...new Set(rows.map((row) => row.slot))].filter((slot) => slot !== 0);
    const run = this.#adapters.arrange(slots);
    const { feeds, sizes } = this.#feeds.build(rows, { slots: this.#adapters, run });
    const graph = await this.#graphs.of(run.count === 0 ? "none" : run.gains ? "dora" : "lora");
    const results = await graph.run(feeds, run.count === 0 ? {} : this.#adapterTensors(run));
    const source: NewKeyValues = {};
    for (const { output } of this.#pool.parts) {
      source[output] = results[output]!.data as Float32Array | Int8Array;
    }
    rows.forEach((row, index) => {
      const { position, blocks } = row;
      const tokens = row.tokens.length;
      const at = { row: index, rows: rows.length, tokensMax: sizes.tokensMax, tokens };
      this.#pool.write(source, { ...at, position, blocks });
    });
    this.#keepStates(rows, results.hiddenStates!.data as Float32Array);
    const { vocabSize } = this.dims;
    const values = results.logits!.data as Float32Array;
    const peaks = results.logitPeaks!.data as Float32Array;
    const blocks = blocksOf(vocabSize);
    return Array.from({ length: countSamples(rows) }, (_, index) => {
      const logits = values.subarray(index * vocabSize, (index + 1) * vocabSize);
      this.#peaks.set(logits, peaks.subarray(index * blocks, (index + 1) * blocks));
      return logits;
    });
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

  #adapterTensors(run: SlotRun): Record<string, ort.Tensor> {
    if (run.layout !== this.#loraLayout) {
      this.#loraTensors.clear();
      this.#loraLayout = run.layout;
    }
    const key = `${run.first}:${run.count}:${run.gains}`;
    let tensors = this.#loraTensors.get(key);
    if (!tensors) {
      tensors = {};
      for (const { name, data, shape } of this.#adapters.views(run)) {
        tensors[name] = new ort.Tensor("float32", data, shape);
      }
      if (this.#loraTensors.size >= loraTensorsMax) this.#loraTensors.clear();
      this.#loraTensors.set(key, tensors);
    }
    return tensors;
  }
}

/**
 * The same model several times, over the same weights: calls in which nobody has an adapter need not pay for adapters, nor
 * those of plain LoRA for DoRA. What few servers need is opened when it is first needed.
 */
class Graphs {
  readonly #open: (adapters: AdapterKind) => Promise<Graph>;
  readonly #opened = new Map<AdapterKind, Graph>();

  private constructor(open: (adapters: AdapterKind) => Promise<Graph>) {
    this.#open = open;
  }

  static async open(open: (adapters: AdapterKind) => Promise<Graph>): Promise<Graphs> {
    const graphs = new Graphs(open);
    await graphs.of("lora");
    await graphs.of("none");
    return graphs;
  }

  async of(adapters: AdapterKind): Promise<Graph> {
    const known = this.#opened.get(adapters);
    if (known) return known;
    const graph = await this.#open(adapters);
    this.#opened.set(adapters, graph);
    return graph;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#opened.values()].map((graph) => graph.close()));
  }
}

class Graph {
  readonly #session: ort.InferenceSession;
  readonly #inputNames: ReadonlySet<string>;

  constructor(session: ort.InferenceSession) {
    this.#session = session;
    this.#inputNames = new Set(session.inputNames);
  }

  /** @param feeds those that the graph does not take are left out */
  run(
    feeds: Feeds,
    tensors: Record<string, ort.Tensor>,
  ): Promise<ort.InferenceSession.OnnxValueMapType> {
    const inputs = { ...tensors };
    for (const [name, { type, data, shape }] of Object.entries(feeds)) {
      if (this.#inputNames.has(name)) inputs[name] = new ort.Tensor(type, data, shape);
    }
    return this.#session.run(inputs);
  }

  close(): Promise<void> {
    return this.#session.release();
  }
}

/** Runs of places whose tensors are kept. */
const loraTensorsMax = 64;
