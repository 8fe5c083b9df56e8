/**
 * The graph's side of the key/value cache: how cached keys and values are read, and how new ones leave. The
 * runner's side is `engine/key-value-pool.ts`; letters in shapes are those of `decoder-graph.ts`.
 */
import type { ModelDims } from "../engine/types.ts";
import type { KeyValueType } from "./graph-files.ts";
import type { OnnxGraph } from "./onnx-graph.ts";

export class CachedKeyValues {
  readonly #graph: OnnxGraph;
  readonly #dims: ModelDims;
  readonly #blockSize: number;
  readonly #quantized: boolean;
  readonly #newRows: string[] = [];

  constructor(
    graph: OnnxGraph,
    { dims, blockSize, type }: { dims: ModelDims; blockSize: number; type: KeyValueType },
  ) {
    this.#graph = graph;
    this.#dims = dims;
    this.#blockSize = blockSize;
    this.#quantized = type === "int8";
  }

  /** The pool: a block's positions of one layer, kind and head are a row. Quantized ones have a scale each. */
  declareInputs(): void {
    const graph = this.#graph;
    const { keyValueHeads, headDim } = this.#dims;
    const type = this.#quantized ? "int8" : "float32";
    graph.input("keyValuePool", type, ["poolRows", this.#blockSize * headDim]);
    graph.ints("shape.cached", [1, keyValueHeads, 0, -1, headDim]);
    if (!this.#quantized) return;
    graph.input("keyValueScales", "float32", ["poolRows", this.#blockSize]);
    graph.ints("shape.cachedScales", [1, keyValueHeads, 0, 1, -1]);
  }

  /** Products of queries with cached keys, `[1, KV, B, GS, P]`, times `scale`. */
  dots(output: string, query: string, { rows, scale }: { rows: string; scale: number }): string {
    const keys = this.#read(`${output}.keys`, rows);
    const attributes = { transB: 1, alpha: { float: scale } };
    const dots = this.#graph.contrib("FusedMatMul", [query, keys], `${output}.dots`, attributes);
    return this.#scaled(dots, rows);
  }

  /** Cached values by their weights, `[1, KV, B, GS, D]`. */
  sums(output: string, weights: string, rows: string): string {
    const values = this.#read(`${output}.values`, rows);
    return this.#graph.op("MatMul", [this.#scaled(weights, rows), values], output);
  }

  /** Takes over the new keys and values of a layer, both `[1, KV, B, S, D]`. */
  add(keys: string, values: string): void {
    this.#newRows.push(keys, values);
  }

  /** Emits all that is new: `[2 · layers, KV, B, S, D]`, and with a quantized cache a scale for each D of them. */
  emitOutputs(): void {
    const graph = this.#graph;
    const { layers, keyValueHeads, headDim } = this.#dims;
    const shape = [2 * layers, keyValueHeads, "B", "S"];
    if (!this.#quantized) {
      graph.op("Concat", this.#newRows, "newKeyValues", { axis: 0 });
      graph.output("newKeyValues", "float32", [...shape, headDim]);
      return;
    }
    const exact = graph.op("Concat", this.#newRows, "newKeyValues.exact", { axis: 0 });
    graph.ints("axis.last", [-1]);
    const largest = graph.op(
      "ReduceMax",
      [graph.op("Abs", [exact], "newKeyValues.magnitudes"), "axis.last"],
      "newKeyValues.largest",
    );
    // Where all are zero any scale will do but zero itself.
    graph.floats("leastMagnitude", [1e-30], []);
    graph.floats("one127th", [1 / 127], []);
    const some = graph.op("Max", [largest, "leastMagnitude"], "newKeyValues.magnitude");
    const scales = graph.op("Mul", [some, "one127th"], "newKeyValueScales");
    graph.op("QuantizeLinear", [exact, scales], "newKeyValues", {
      axis: 4,
      block_size: headDim,
      output_dtype: int8DataType,
    });
    graph.output("newKeyValues", "int8", [...shape, headDim]);
    graph.output("newKeyValueScales", "float32", [...shape, 1]);
  }

  /** `[1, KV, B, P, D]` in float32, not yet scaled. */
  #read(output: string, rows: string): string {
    const graph = this.#graph;
    const blocks = graph.op("Gather", ["keyValuePool", rows], `${output}.blocks`, { axis: 0 });
    if (!this.#quantized) return graph.op("Reshape", [blocks, "shape.cached"], output);
    const whole = graph.op("Reshape", [blocks, "shape.cached"], `${output}.int8`);
    return graph.op("Cast", [whole], output, { to: 1 });
  }

  /** Products and weights are fewer than what they are made of, so they are what takes the scales. */
  #scaled(x: string, rows: string): string {
    if (!this.#quantized) return x;
    const graph = this.#graph;
    const blocks = graph.op("Gather", ["keyValueScales", rows], `${x}.blockScales`, { axis: 0 });
    const scales = graph.op("Reshape", [blocks, "shape.cachedScales"], `${x}.scales`);
    return graph.op("Mul", [x, scales], `${x}.scaled`);
  }
}

/** As ONNX numbers it. */
const int8DataType = 3;
