/** Weighs the tokens of many rows in one native call: exponentials are most of what a draw costs. */
import ort from "onnxruntime-node";
import { OnnxGraph } from "../models/onnx-graph.ts";
import { blocksOf, inBlocks, peaksOf } from "../models/token-blocks.ts";
import { applyChanges } from "./logit-changes.ts";
import { applyMask } from "./masked-logits.ts";
import { sessionOptions } from "./session-options.ts";
import type { TokenWeights, WeighedRow } from "./token-weights.ts";

export class NativeWeights {
  readonly #session: ort.InferenceSession;
  readonly #vocabSize: number;
  /** Logits of the rows side by side; grows as needed. */
  #staged = new Float32Array();

  private constructor(session: ort.InferenceSession, vocabSize: number) {
    this.#session = session;
    this.#vocabSize = vocabSize;
  }

  static async open(vocabSize: number, threads: number): Promise<NativeWeights> {
    const { model } = await OnnxGraph.withFedWeights(async (graph) => {
      weighingGraph(graph, vocabSize);
    });
    const session = await ort.InferenceSession.create(model, await sessionOptions(threads));
    return new NativeWeights(session, vocabSize);
  }

  /** @returns for each row its weights, which sum up to 1 */
  async weigh(rows: readonly WeighedRow[]): Promise<TokenWeights[]> {
    const [size, blocks] = [this.#vocabSize, blocksOf(this.#vocabSize)];
    if (this.#staged.length < rows.length * size) {
      this.#staged = new Float32Array(rows.length * size);
    }
    const inverses = Float32Array.from(rows, ({ temperature }) => 1 / temperature);
    rows.forEach(({ logits, changes, mask }, row) => {
      const own = this.#staged.subarray(row * size, (row + 1) * size);
      own.set(logits);
      if (changes) applyChanges(own, changes);
      if (mask) applyMask(own, mask);
    });
    const staged = this.#staged.subarray(0, rows.length * size);
    const results = await this.#session.run({
      logits: new ort.Tensor("float32", staged, [rows.length, size]),
      inverseTemperatures: new ort.Tensor("float32", inverses, [rows.length, 1]),
    });
    const part = (name: string, row: number, width: number) =>
      (results[name]!.data as Float32Array).subarray(row * width, (row + 1) * width);
    return rows.map((_, row) => ({
      weights: part("weights", row, size),
      masses: part("masses", row, blocks),
      peaks: part("peaks", row, blocks),
    }));
  }

  close(): Promise<void> {
    return this.#session.release();
  }
}

/** `logits [rows, vocabSize]` and `inverseTemperatures [rows, 1]` to weights, and masses and peaks of blocks. */
function weighingGraph(graph: OnnxGraph, vocabSize: number): void {
  graph.input("logits", "float32", ["rows", vocabSize]);
  graph.input("inverseTemperatures", "float32", ["rows", 1]);
  // Below the largest first: a small temperature would scale large logits beyond what float32 tells apart.
  graph.ints("axis.last", [-1]);
  const largest = graph.op("ReduceMax", ["logits", "axis.last"], "largest");
  const below = graph.op("Sub", ["logits", largest], "below");
  const scaled = graph.op("Mul", [below, "inverseTemperatures"], "scaled");
  const weights = graph.op("Softmax", [scaled], "weights", { axis: -1 });
  const blocks = inBlocks(graph, weights, { vocabSize, filler: 0 });
  const axis = graph.ints("axis.inBlock", [2]);
  graph.op("ReduceSum", [blocks, axis], "masses", { keepdims: 0 });
  peaksOf(graph, blocks, "peaks");
  graph.output("weights", "float32", ["rows", vocabSize]);
  graph.output("masses", "float32", ["rows", blocksOf(vocabSize)]);
  graph.output("peaks", "float32", ["rows", blocksOf(vocabSize)]);
}
