/** One call of a graph of the model: feeds a step's rows, stores their keys and values, hands out what they came to. */
import ort from "onnxruntime-node";
import { invariant } from "../../sdk/protocol/errors.ts";
import type { AdapterKind } from "../models/graph-files.ts";
import { AdapterSlots, type SlotRun } from "./adapter-slots.ts";
import type { KeyValuePool, NewKeyValues } from "./key-value-pool.ts";
import { type Feeds, StepFeeds } from "./step-feeds.ts";
import type { ModelDims, StepRow } from "./types.ts";

/** Valid until the next call: logits and the largest of each block of them by sampled token, states by token that wants them. */
export type CallResult = { logits: Float32Array; peaks: Float32Array; states: Float32Array };

/**
 * The same model several times, over the same weights: calls without adapters need not pay for them, nor plain LoRA for DoRA.
 * `single-` ones are over other weights, for a single sequence.
 */
export type GraphKind = AdapterKind | `single-${Exclude<AdapterKind, "dora">}`;
export type Graphs = Partial<Record<GraphKind, Graph>>;

export type GraphCallsOptions = {
  graphs: Graphs;
  pool: KeyValuePool;
  dims: ModelDims;
  blockSize: number;
  slots: number;
  rankMax: number;
};

export class GraphCalls {
  /** Where the adapters lie that rows of these calls have. */
  readonly adapters: AdapterSlots;
  readonly #graphs: Graphs;
  readonly #pool: KeyValuePool;
  readonly #feeds: StepFeeds;
  /** Tensors over adapters of the runs last used; a steady mixture makes none anew. */
  readonly #loraTensors = new Map<string, Record<string, ort.Tensor>>();
  #loraLayout = -1;

  constructor({ graphs, pool, dims, blockSize, slots, rankMax }: GraphCallsOptions) {
    this.#graphs = graphs;
    this.#pool = pool;
    this.adapters = new AdapterSlots({ dims, slots, rankMax });
    this.#feeds = new StepFeeds({ dims, blockSize, pool });
  }

  /** @param rows one at least, all of them decoding or all of them prompts */
  async run(rows: readonly StepRow[]): Promise<CallResult> {
    const run = this.adapters.arrange(slotsOf(rows));
    const { feeds, sizes } = this.#feeds.build(rows, { slots: this.adapters, run });
    const graph = this.#graphFor(rows, run);
    invariant(graph, "calls are computed where their graph is open");
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
    return {
      logits: results.logits!.data as Float32Array,
      peaks: results.logitPeaks!.data as Float32Array,
      states: results.hiddenStates!.data as Float32Array,
    };
  }

  #graphFor(rows: readonly StepRow[], { count, gains }: SlotRun): Graph | undefined {
    if (count > 0 && gains) return this.#graphs.dora;
    const kind = count === 0 ? "none" : "lora";
    const isSingle = rows.every((row) => row.isSingle);
    return (isSingle ? this.#graphs[`single-${kind}` as const] : undefined) ?? this.#graphs[kind];
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
      for (const { name, data, shape } of this.adapters.views(run)) {
        tensors[name] = new ort.Tensor("float32", data, shape);
      }
      if (this.#loraTensors.size >= loraTensorsMax) this.#loraTensors.clear();
      this.#loraTensors.set(key, tensors);
    }
    return tensors;
  }
}

/** The slots that rows have, slot 0 left out. */
export function slotsOf(rows: readonly StepRow[]): number[] {
  return [...new Set(rows.map((row) => row.slot))].filter((slot) => slot !== 0);
}

/** One way to run the model. Opening it and each of its calls block the thread that makes them, which no other can use it from. */
export class Graph {
  readonly #session: ort.InferenceSession;
  readonly #inputNames: ReadonlySet<string>;

  private constructor(session: ort.InferenceSession) {
    this.#session = session;
    this.#inputNames = new Set(session.inputNames);
  }

  static async open(path: string, options: ort.InferenceSession.SessionOptions): Promise<Graph> {
    return new Graph(await ort.InferenceSession.create(path, options));
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

/** Opens them one after the other, as each takes memory while it is opened. */
export async function openGraphs(
  paths: Partial<Record<GraphKind, string>>,
  options: ort.InferenceSession.SessionOptions,
): Promise<Graphs> {
  const graphs: Graphs = {};
  for (const [kind, path] of Object.entries(paths)) {
    graphs[kind as GraphKind] = await Graph.open(path, options);
  }
  return graphs;
}

/** Runs of places whose tensors are kept. */
const loraTensorsMax = 64;
