/** Runs the decoder graph: feeds a step's rows, stores their keys and values, hands out their logits. */
import { readFile } from "node:fs/promises";
import ort from "onnxruntime-node";
import { invariant } from "../../sdk/protocol/errors.ts";
import type { ModelGraph } from "../models/import-model.ts";
import { AdapterSlots, type SlotRun } from "./adapter-slots.ts";
import { KeyValuePool } from "./key-value-pool.ts";
import { type Feeds, StepFeeds } from "./step-feeds.ts";
import type { ModelDims, ModelRunner, PackedAdapter, StepRow } from "./types.ts";

export type ModelRunnerOptions = {
  model: ModelGraph;
  /** Blocks of the key/value pool. */
  blocks: number;
  /** Adapter slots beside slot 0. */
  slots: number;
  rankMax: number;
  /** Threads of one native call. */
  threads: number;
};

/**
 * Opens the model. Calls block the thread that makes them, so the runner belongs in a worker thread,
 * which imports this module by its address and looks for this name.
 * @throws when the graph cannot be opened
 */
export async function createRunner(options: ModelRunnerOptions): Promise<ModelRunner> {
  const session = await ort.InferenceSession.create(options.model.graphPath, {
    intraOpNumThreads: options.threads,
    interOpNumThreads: 1,
    executionMode: "sequential",
    // Shapes change with every step; a pattern kept for each of them would only grow.
    enableMemPattern: false,
    logSeverityLevel: 3,
    extra: {
      session: {
        // Spinning threads take the cores from everything else on the machine, and gain nothing on shared ones.
        intra_op: { allow_spinning: "0" },
        // Attention weights far below the largest are denormal, and cost several times a normal product.
        set_denormal_as_zero: "1",
        // The other kernels take half as long again where both are exact, so they are asked for only there.
        x64quantprecision: (await sumsIn16Bits()) ? "1" : "0",
      },
    },
  });
  return new OnnxModelRunner(session, options);
}

class OnnxModelRunner implements ModelRunner {
  readonly dims: ModelDims;
  readonly blockSize: number;
  readonly blocks: number;
  readonly slots: number;
  readonly rankMax: number;
  readonly #session: ort.InferenceSession;
  readonly #inputNames: ReadonlySet<string>;
  readonly #pool: KeyValuePool;
  readonly #adapters: AdapterSlots;
  readonly #feeds: StepFeeds;
  /** Tensors over adapters of the runs last used; a steady mixture makes none anew. */
  readonly #loraTensors = new Map<string, Record<string, ort.Tensor>>();
  #loraLayout = -1;

  constructor(session: ort.InferenceSession, options: ModelRunnerOptions) {
    const { dims, blockSize } = options.model;
    this.dims = dims;
    this.blockSize = blockSize;
    this.blocks = options.blocks;
    this.slots = options.slots;
    this.rankMax = options.rankMax;
    this.#session = session;
    this.#inputNames = new Set(session.inputNames);
    this.#pool = new KeyValuePool({ dims, blocks: options.blocks, blockSize });
    this.#adapters = new AdapterSlots({ dims, slots: options.slots, rankMax: options.rankMax });
    this.#feeds = new StepFeeds({ dims, blockSize, pool: this.#pool });
  }

  async run(decode: readonly StepRow[], prefill: readonly StepRow[]): Promise<Float32Array[]> {
    return [...(await this.#call(decode)), ...(await this.#call(prefill))];
  }

  loadSlot(slot: number, adapter: PackedAdapter): void {
    this.#adapters.load(slot, adapter);
  }

  async close(): Promise<void> {
    await this.#session.release();
  }

  async #call(rows: readonly StepRow[]): Promise<Float32Array[]> {
    if (rows.length === 0) return [];
    const slots = [...new Set(rows.map((row) => row.slot))].filter((slot) => slot !== 0);
    const run = this.#adapters.arrange(slots);
    const { feeds, sizes } = this.#feeds.build(rows, { slots: this.#adapters, run });
    const inputs = { ...this.#toTensors(feeds), ...this.#adapterTensors(run) };
    const { logits, newKeyValues } = await this.#session.run(inputs);
    invariant(logits && newKeyValues, "the graph returns logits and keys with values");

    const source = newKeyValues.data as Float32Array;
    rows.forEach((row, index) => {
      const { position, blocks } = row;
      const tokens = row.tokens.length;
      const at = { row: index, rows: rows.length, tokensMax: sizes.tokensMax, tokens };
      this.#pool.write(source, { ...at, position, blocks });
    });
    const { vocabSize } = this.dims;
    const values = logits.data as Float32Array;
    return rows
      .filter((row) => row.sample)
      .map((_, index) => values.subarray(index * vocabSize, (index + 1) * vocabSize));
  }

  #toTensors(feeds: Feeds): Record<string, ort.Tensor> {
    const tensors: Record<string, ort.Tensor> = {};
    for (const [name, { type, data, shape }] of Object.entries(feeds)) {
      if (this.#inputNames.has(name)) tensors[name] = new ort.Tensor(type, data, shape);
    }
    return tensors;
  }

  #adapterTensors(run: SlotRun): Record<string, ort.Tensor> {
    if (run.layout !== this.#loraLayout) {
      this.#loraTensors.clear();
      this.#loraLayout = run.layout;
    }
    const key = `${run.first}:${run.count}`;
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

/** Whether int8 kernels sum pairs of products in 16 bits and may overflow: on x64 without VNNI. */
async function sumsIn16Bits(): Promise<boolean> {
  if (process.arch !== "x64") return false;
  const cpu = await readFile("/proc/cpuinfo", "utf8").catch(() => "");
  return !/\bavx(512)?_vnni\b/.test(cpu);
}

/** Runs of places whose tensors are kept. */
const loraTensorsMax = 64;
