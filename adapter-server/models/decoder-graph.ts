/**
 * Emits a decoder with paged attention and batched LoRA as one ONNX graph.
 *
 * Tokens of all rows lie one after another, so that padding costs no matrix product. What differs from
 * call to call is said by index inputs: which rows of the key/value pool a sequence owns, where a
 * token's heads go for attention and come back from it, which tokens share an adapter. So the same few
 * nodes serve decoding, chunks of prompts, and any mixture of adapters; layouts are never transposed.
 * `engine/step-feeds.ts` computes the indices; the two files are read side by side.
 *
 * Letters in shapes: T tokens, B rows, S tokens of the longest row, G query heads for each key/value
 * head (KV), D head size, P cached positions of the longest row, n adapter groups, m tokens of the
 * largest group, R rank.
 */
import { isDeepStrictEqual } from "node:util";
import { AdaptedLinear, allFormats, type DecoderFormats } from "./adapted-linear.ts";
import { embedBlocks, embeddingName, tiedToEmbedding } from "./block-embedding.ts";
import { CachedKeyValues } from "./cached-key-values.ts";
import type { GraphVariant } from "./graph-files.ts";
import { attentionInputs, type LayerTensors, type ModelSpec } from "./model-spec.ts";
import type { OnnxGraph } from "./onnx-graph.ts";
import { rotaryFrequencies } from "./rope.ts";
import { blocksOf, inBlocks, peaksOf } from "./token-blocks.ts";
import type { MatrixSource } from "./weight-format.ts";

/** What the graph takes from a checkpoint. */
export type DecoderWeights = {
  /** Matrices stacked by rows, as one. */
  matrix(name: string, tensors: readonly string[]): MatrixSource;
  vector(tensor: string): Promise<Float32Array>;
  /** Stores the embedding in the checkpoint's own type and emits its lookup, `[T, hidden]` in float32. */
  embed(graph: OnnxGraph, tokens: string): Promise<string>;
};

export type DecoderOptions = {
  weights: DecoderWeights;
  formats: DecoderFormats;
  /** Tokens of one block of the key/value pool. */
  blockSize: number;
} & Pick<GraphVariant, "adapters" | "keyValues">;

/** Emits the whole graph. */
export async function buildDecoder(
  graph: OnnxGraph,
  spec: ModelSpec,
  options: DecoderOptions,
): Promise<void> {
  const builder = new DecoderBuilder(graph, spec, options);
  await builder.build();
}

/**
 * Emits one layer: from the input `hidden` to the output `after`, both `[T, hidden]`, the residual.
 * @param spec of a single layer, as `layerSpec` makes it
 */
export async function buildLayer(
  graph: OnnxGraph,
  spec: ModelSpec,
  options: DecoderOptions,
): Promise<void> {
  const builder = new DecoderBuilder(graph, spec, options);
  await builder.buildLayer();
}

/** What goes from layer to layer; the last addition is left to the norm that follows. */
type Residual = { hidden: string; update: string | undefined };

class DecoderBuilder {
  readonly #graph: OnnxGraph;
  readonly #spec: ModelSpec;
  readonly #weights: DecoderWeights;
  readonly #formats: DecoderFormats;
  readonly #adapters: boolean;
  readonly #linear: AdaptedLinear;
  /** For each way to attend, the names of its cosines and sines. */
  readonly #turns: { cos: string; sin: string }[] = [];
  readonly #cached: CachedKeyValues;

  constructor(graph: OnnxGraph, spec: ModelSpec, options: DecoderOptions) {
    this.#graph = graph;
    this.#spec = spec;
    this.#weights = options.weights;
    this.#formats = options.formats;
    this.#adapters = options.adapters !== "none";
    this.#cached = new CachedKeyValues(graph, {
      dims: spec.dims,
      blockSize: options.blockSize,
      type: options.keyValues,
    });
    this.#linear = new AdaptedLinear(graph, spec.dims, options);
  }

  async build(): Promise<void> {
    const graph = this.#graph;
    const { dims, tensors } = this.#spec;
    this.#shared();
    let residual: Residual = { hidden: await this.#embed(), update: undefined };
    for (let index = 0; index < dims.layers; index++) {
      residual = await this.#layer(index, residual);
    }
    const last = await this.#norm("final", { ...residual, weight: tensors.finalNorm });
    await this.#logits(last.normed);
    this.#hiddenStates(last.normed);
    graph.output("logits", "float32", ["sampled", dims.vocabSize]);
    graph.output("logitPeaks", "float32", ["sampled", blocksOf(dims.vocabSize)]);
    this.#cached.emitOutputs();
  }

  async buildLayer(): Promise<void> {
    const graph = this.#graph;
    const shape = ["T", this.#spec.dims.hiddenSize];
    graph.input("hidden", "float32", shape);
    this.#shared();
    const { hidden, update } = await this.#layer(0, { hidden: "hidden", update: undefined });
    graph.op("Add", [hidden, update], "after");
    graph.output("after", "float32", shape);
  }

  /** What all layers use. */
  #shared(): void {
    this.#declareInputs();
    this.#cached.declareInputs();
    this.#linear.declareInputs();
    this.#constants();
    this.#ropes();
    for (const attention of this.#spec.attentions.keys()) this.#planes(attention);
  }

  async #layer(index: number, before: Residual): Promise<{ hidden: string; update: string }> {
    const name = `layer${index}`;
    const layer = this.#spec.tensors.layer(index);
    const first = await this.#norm(`${name}.x`, { ...before, weight: layer.inputNorm });
    const attended = await this.#outputNorm(
      `${name}.attention`,
      await this.#attention(name, first.normed, index),
      layer.outputNorms?.attention,
    );
    const second = await this.#norm(`${name}.x2`, {
      hidden: first.sum,
      update: attended,
      weight: layer.feedForwardNorm,
    });
    const update = await this.#outputNorm(
      `${name}.feedForward`,
      await this.#feedForward(name, second.normed, index),
      layer.outputNorms?.feedForward,
    );
    return { hidden: second.sum, update };
  }

  #declareInputs(): void {
    const graph = this.#graph;
    const { keyValueHeads, heads } = this.#spec.dims;
    graph.input("tokens", "int32", ["T"]);
    graph.input("positions", "float32", ["turns", 1]);
    graph.input("headTurns", "int64", ["T", heads + 2 * keyValueHeads]);
    if (allFormats(this.#formats, this.#spec.dims.layers).some((one) => one.quantizesRows)) {
      graph.input("rowZeroPoint", "uint8", ["T", 1]);
    }
    graph.input("queryRows", "int32", [1, keyValueHeads, "B", "GS"]);
    graph.input("keyRows", "int32", [1, keyValueHeads, "B", "S"]);
    graph.input("valueRows", "int32", [1, keyValueHeads, "B", "S"]);
    graph.input("attendedRows", "int32", ["T", heads]);
    this.#spec.attentions.forEach(({ window }, attention) => {
      const { blockRows, pastMask, chunkMask } = attentionInputs(attention);
      const [blocks, past] = [`blocks${attention}`, `P${attention}`];
      // Queries of one row see the same of the cache, unless a window moves along with them.
      const queries = Number.isFinite(window) ? `Q${attention}` : 1;
      graph.input(blockRows, "int32", [1, keyValueHeads, "B", blocks]);
      graph.input(pastMask, "float32", [1, 1, "B", queries, past]);
      graph.input(chunkMask, "float32", [1, 1, "B", "GS", "S"]);
    });
    graph.input("sampledRows", "int32", ["sampled"]);
  }

  #constants(): void {
    const graph = this.#graph;
    const { keyValueHeads, headDim, heads, intermediateSize } = this.#spec.dims;
    graph.ints("shape.heads", [-1, heads + 2 * keyValueHeads, headDim]);
    graph.ints("shape.headRows", [-1, headDim]);
    graph.ints("shape.attended", [-1, heads * headDim]);
    graph.ints("shape.feedForward", [-1, intermediateSize]);
    // With adapters both are parts of their own, `[T, 2, intermediate]`.
    const gateOrUp = this.#adapters ? 1 : intermediateSize;
    graph.ints("sizes.gateUp", [gateOrUp, gateOrUp]);
    graph.ints("sizes.heads", [heads, keyValueHeads, keyValueHeads]);
  }

  /**
   * Cosines and sines of the positions of this call, `[turns, D / 2]`, for each different rope. Tables of all
   * positions that a model knows would be larger than some models.
   */
  #ropes(): void {
    const graph = this.#graph;
    const { attentions, dims } = this.#spec;
    for (const [index, { rope }] of attentions.entries()) {
      const first = attentions.findIndex((other) => isDeepStrictEqual(other.rope, rope));
      const [cos, sin, name] = [`cos${first}`, `sin${first}`, `angles${first}`];
      this.#turns.push({ cos, sin });
      if (first < index) continue;
      const frequencies = rotaryFrequencies(rope, dims.headDim);
      graph.floats(`${name}.frequencies`, [...frequencies], [1, frequencies.length]);
      graph.op("Mul", ["positions", `${name}.frequencies`], name);
      graph.op("Cos", [name], cos);
      graph.op("Sin", [name], sin);
    }
  }

  /**
   * Where in the pool keys and values of each layer lie, for the layers that attend in one way: a block's
   * rows are ordered by layer, then key or value, then head.
   */
  #planes(attention: number): void {
    const graph = this.#graph;
    const { layerAttention, dims } = this.#spec;
    const planes = layerAttention.flatMap((used, layer) =>
      used === attention ? [2 * layer, 2 * layer + 1] : [],
    );
    const { blockRows, pastMask, chunkMask } = attentionInputs(attention);
    const name = `planes${attention}`;
    graph.int32s(
      `${name}.offsets`,
      planes.map((plane) => plane * dims.keyValueHeads),
      [planes.length, 1, 1, 1],
    );
    graph.ints(
      `${name}.ones`,
      planes.map(() => 1),
    );
    const rows = graph.op("Add", [blockRows, `${name}.offsets`], `${name}.rows`);
    const each = planes.map((plane) => `plane${plane}`);
    graph.node("", "Split", [rows, `${name}.ones`], each, { axis: 0 });
    const size = { start: 4, end: 5 };
    const past = graph.op("Shape", [pastMask], `size.past${attention}`, size);
    const chunk = graph.op("Shape", [chunkMask], `size.chunk${attention}`, size);
    graph.op("Concat", [past, chunk], `sizes.attention${attention}`, { axis: 0 });
  }

  /** Embedded tokens, `[T, hidden]`. */
  async #embed(): Promise<string> {
    const { embeddingScale, tensors } = this.#spec;
    const embedded =
      this.#formats.embedding === "blocks"
        ? await embedBlocks(
            this.#graph,
            "tokens",
            this.#weights.matrix(embeddingName, [tensors.embedding]),
          )
        : await this.#weights.embed(this.#graph, "tokens");
    if (embeddingScale === 1) return embedded;
    const factor = this.#graph.floats("embeddingScale", [embeddingScale], []);
    return this.#graph.op("Mul", [embedded, factor], "embedded.scaled");
  }

  /** RMSNorm of `hidden + update`; the sum goes on as the residual. */
  async #norm(
    output: string,
    { hidden, update, weight }: Residual & { weight: string },
  ): Promise<{ normed: string; sum: string }> {
    if (update === undefined) {
      return { normed: await this.#plainNorm(output, hidden, weight), sum: hidden };
    }
    const stored = await this.#normWeight(`${output}.norm`, weight, this.#spec.dims.hiddenSize);
    this.#graph.node(
      "com.microsoft",
      "SkipSimplifiedLayerNormalization",
      [hidden, update, stored],
      [output, "", "", `${output}.sum`],
      { epsilon: { float: this.#spec.normEpsilon } },
    );
    return { normed: output, sum: `${output}.sum` };
  }

  /** Some families norm what a part adds to the residual. */
  async #outputNorm(name: string, update: string, weight: string | undefined): Promise<string> {
    return weight === undefined ? update : this.#plainNorm(`${name}.normed`, update, weight);
  }

  /** RMSNorm over the last axis. */
  async #plainNorm(
    output: string,
    x: string,
    weight: string,
    width = this.#spec.dims.hiddenSize,
  ): Promise<string> {
    const stored = await this.#normWeight(`${output}.norm`, weight, width);
    const attributes = { axis: -1, epsilon: { float: this.#spec.normEpsilon }, stash_type: 1 };
    return this.#graph.op("SimplifiedLayerNormalization", [x, stored], output, attributes);
  }

  #normWeight(name: string, tensor: string, width: number): Promise<string> {
    const { normOffset } = this.#spec;
    return this.#graph.weight(name, "float32", [width], async () => {
      const stored = await this.#weights.vector(tensor);
      return normOffset === 0 ? stored : stored.map((value) => value + normOffset);
    });
  }

  async #attention(name: string, x: string, index: number): Promise<string> {
    const graph = this.#graph;
    const layer = this.#spec.tensors.layer(index);
    const qkv = await this.#linear.multiply(index, "qkv", x, {
      tensors: layer.qkv.map(({ tensor }) => tensor),
      bias: layer.qkvBias.map(({ tensor }) => tensor),
    });

    // All heads of a token turn in one node, as if they were a sequence; value heads are given the first
    // turn, which is none.
    const split = graph.op("Reshape", [qkv, "shape.heads"], `${name}.heads`);
    const heads = await this.#headNorms(name, split, layer);
    const attention = this.#spec.layerAttention[index]!;
    const { cos, sin } = this.#turns[attention]!;
    const inputs = [heads, "headTurns", cos, sin];
    const turned = graph.contrib("RotaryEmbedding", inputs, `${name}.turned`, { num_heads: 1 });
    const rows = graph.op("Reshape", [turned, "shape.headRows"], `${name}.headRows`);
    const query = graph.op("Gather", [rows, "queryRows"], `${name}.q`, { axis: 0 });
    const key = graph.op("Gather", [rows, "keyRows"], `${name}.k`, { axis: 0 });
    const value = graph.op("Gather", [rows, "valueRows"], `${name}.v`, { axis: 0 });
    this.#cached.add(key, value);

    const { pastMask, chunkMask } = attentionInputs(attention);
    const { scale } = this.#spec.attentions[attention]!;
    const [cachedKeys, cachedValues] = [`plane${2 * index}`, `plane${2 * index + 1}`];
    const pastDots = this.#cached.dots(`${name}.past`, query, { rows: cachedKeys, scale });
    const chunkDots = graph.contrib("FusedMatMul", [query, key], `${name}.chunk.dots`, {
      transB: 1,
      alpha: { float: scale },
    });
    const pastScores = graph.op("Add", [pastDots, pastMask], `${name}.past`);
    const chunkScores = graph.op("Add", [chunkDots, chunkMask], `${name}.chunk`);
    const scores = graph.op("Concat", [pastScores, chunkScores], `${name}.scores`, { axis: -1 });
    const weights = graph.op("Softmax", [scores], `${name}.weights`, { axis: -1 });
    const parts = [`${name}.pastWeights`, `${name}.chunkWeights`] as const;
    graph.node("", "Split", [weights, `sizes.attention${attention}`], parts, { axis: -1 });
    const sum = graph.op(
      "Add",
      [
        this.#cached.sums(`${name}.pastSum`, parts[0], cachedValues),
        graph.op("MatMul", [parts[1], value], `${name}.chunkSum`),
      ],
      `${name}.sum`,
    );
    const sums = graph.op("Reshape", [sum, "shape.headRows"], `${name}.sums`);
    const byToken = graph.op("Gather", [sums, "attendedRows"], `${name}.byToken`, { axis: 0 });
    const attended = graph.op("Reshape", [byToken, "shape.attended"], `${name}.attended`);
    return this.#linear.multiply(index, "o", attended, { tensors: [layer.attentionOutput] });
  }

  /** Queries and keys normed head by head, where the family does so; `[T, G · KV + 2 · KV, D]` as before. */
  async #headNorms(name: string, heads: string, { headNorms }: LayerTensors): Promise<string> {
    if (!headNorms) return heads;
    const [query, key, value] = ["query", "key", "value"].map((part) => `${name}.${part}Heads`);
    const parts = [query!, key!, value!];
    this.#graph.node("", "Split", [heads, "sizes.heads"], parts, { axis: 1 });
    const { headDim } = this.#spec.dims;
    const normedQuery = await this.#plainNorm(
      `${name}.queryNormed`,
      query!,
      headNorms.query,
      headDim,
    );
    const normedKey = await this.#plainNorm(`${name}.keyNormed`, key!, headNorms.key, headDim);
    const normed = [normedQuery, normedKey, value!];
    return this.#graph.op("Concat", normed, `${name}.normedHeads`, { axis: 1 });
  }

  async #feedForward(name: string, x: string, index: number): Promise<string> {
    const graph = this.#graph;
    const layer = this.#spec.tensors.layer(index);
    const gateUp = await this.#linear.multiply(index, "gateUp", x, {
      tensors: layer.gateUp.map(({ tensor }) => tensor),
    });
    const [gate, up] = [`${name}.gate`, `${name}.up`] as const;
    graph.node("", "Split", [gateUp, "sizes.gateUp"], [gate, up], { axis: 1 });
    let gated = graph.op("Mul", [this.#activate(name, gate), up], `${name}.gated`);
    if (this.#adapters) {
      gated = graph.op("Reshape", [gated, "shape.feedForward"], `${name}.flat`);
    }
    return this.#linear.multiply(index, "down", gated, { tensors: [layer.down] });
  }

  #activate(name: string, gate: string): string {
    const { activation } = this.#spec;
    switch (activation) {
      case "silu":
        // QuickGelu with alpha 1 is x · sigmoid(x), which is SiLU, in one node.
        return this.#graph.contrib("QuickGelu", [gate], `${name}.silu`, { alpha: { float: 1 } });
      case "gelu-tanh":
        return this.#graph.op("Gelu", [gate], `${name}.gelu`, { approximate: "tanh" });
      default:
        return activation satisfies never;
    }
  }

  /** What embeddings are pooled from. Of usual calls no token's is asked for, and a gather of none costs none. */
  #hiddenStates(normed: string): void {
    const graph = this.#graph;
    graph.input("stateRows", "int32", ["stated"]);
    graph.op("Gather", [normed, "stateRows"], "hiddenStates", { axis: 0 });
    graph.output("hiddenStates", "float32", ["stated", this.#spec.dims.hiddenSize]);
  }

  async #logits(normed: string): Promise<void> {
    const graph = this.#graph;
    const { dims, tensors, tiedEmbedding, logitCap } = this.#spec;
    const rows = graph.op("Gather", [normed, "sampledRows"], "sampledHidden", { axis: 0 });
    const format = this.#formats.logits;
    if (format.quantizesRows) {
      graph.op("Gather", ["rowZeroPoint", "sampledRows"], "sampledZeroPoint", { axis: 0 });
    }
    const activation = await format.prepare(graph, rows, {
      width: dims.hiddenSize,
      zeroPoints: "sampledZeroPoint",
    });
    const name = logitCap === undefined ? "logits" : "logits.uncapped";
    const matrix = this.#weights.matrix(name, [tiedEmbedding ? tensors.embedding : tensors.output]);
    const isStored = tiedEmbedding && this.#formats.embedding === "blocks";
    await format.multiply(graph, activation, isStored ? tiedToEmbedding(matrix) : matrix);
    if (logitCap !== undefined) {
      const cap = graph.floats("logitCap", [logitCap], []);
      const shares = graph.op("Div", [name, cap], "logits.shares");
      graph.op("Mul", [graph.op("Tanh", [shares], "logits.bent"), cap], "logits");
    }
    const blocks = inBlocks(graph, "logits", { vocabSize: dims.vocabSize, filler: -Infinity });
    peaksOf(graph, blocks, "logitPeaks");
  }
}
