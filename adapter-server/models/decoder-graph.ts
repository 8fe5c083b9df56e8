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
import { type LoraSite, loraInputs, loraSites } from "../lora/sites.ts";
import type { ModelSpec } from "./model-spec.ts";
import type { OnnxGraph } from "./onnx-graph.ts";
import { rotaryTables } from "./rope.ts";
import type { MatrixSource, WeightFormat } from "./weight-format.ts";

/** What the graph takes from a checkpoint. */
export type DecoderWeights = {
  /** Matrices stacked by rows, as one. */
  matrix(name: string, tensors: readonly string[]): MatrixSource;
  vector(tensor: string): Promise<Float32Array>;
  /** Stores the embedding in the checkpoint's own type and emits its lookup, `[T, hidden]` in float32. */
  embed(graph: OnnxGraph, tokens: string): Promise<string>;
};

/** How each matrix is stored: those of a layer by site, and the one that yields logits. */
export type DecoderFormats = Record<LoraSite["name"] | "logits", WeightFormat>;

/** Emits the whole graph. */
export async function buildDecoder(
  graph: OnnxGraph,
  spec: ModelSpec,
  options: { weights: DecoderWeights; formats: DecoderFormats; blockSize: number },
): Promise<void> {
  const builder = new DecoderBuilder(graph, spec, options);
  await builder.build();
}

class DecoderBuilder {
  readonly #graph: OnnxGraph;
  readonly #spec: ModelSpec;
  readonly #weights: DecoderWeights;
  readonly #formats: DecoderFormats;
  readonly #blockSize: number;
  readonly #newKeyValues: string[] = [];

  constructor(
    graph: OnnxGraph,
    spec: ModelSpec,
    options: { weights: DecoderWeights; formats: DecoderFormats; blockSize: number },
  ) {
    this.#graph = graph;
    this.#spec = spec;
    this.#weights = options.weights;
    this.#formats = options.formats;
    this.#blockSize = options.blockSize;
  }

  async build(): Promise<void> {
    const graph = this.#graph;
    const { dims, tensors } = this.#spec;
    this.#declareInputs();
    await this.#constants();

    let hidden = await this.#weights.embed(graph, "tokens");
    let update: string | undefined;
    for (let index = 0; index < dims.layers; index++) {
      const name = `layer${index}`;
      const layer = tensors.layer(index);
      const first = await this.#norm(`${name}.x`, { hidden, update, weight: layer.inputNorm });
      const attended = await this.#attention(name, first.normed, index);
      const second = await this.#norm(`${name}.x2`, {
        hidden: first.sum,
        update: attended,
        weight: layer.feedForwardNorm,
      });
      hidden = second.sum;
      update = await this.#feedForward(name, second.normed, index);
    }
    const last = await this.#norm("final", { hidden, update, weight: tensors.finalNorm });
    await this.#logits(last.normed);
    graph.op("Concat", this.#newKeyValues, "newKeyValues", { axis: 0 });
    graph.output("logits", "float32", ["sampled", dims.vocabSize]);
    const { layers, keyValueHeads, headDim } = dims;
    graph.output("newKeyValues", "float32", [2 * layers, keyValueHeads, "B", "S", headDim]);
  }

  #declareInputs(): void {
    const graph = this.#graph;
    const { keyValueHeads, heads, headDim, layers } = this.#spec.dims;
    graph.input("tokens", "int32", ["T"]);
    graph.input("positions", "int64", ["T", heads + 2 * keyValueHeads]);
    if (Object.values(this.#formats).some((format) => format.quantizesRows)) {
      graph.input("rowZeroPoint", "uint8", ["T", 1]);
    }
    graph.input("queryRows", "int32", [1, keyValueHeads, "B", "GS"]);
    graph.input("keyRows", "int32", [1, keyValueHeads, "B", "S"]);
    graph.input("valueRows", "int32", [1, keyValueHeads, "B", "S"]);
    graph.input("attendedRows", "int32", ["T", heads]);
    graph.input("blockRows", "int32", [1, keyValueHeads, "B", "blocks"]);
    graph.input("pastMask", "float32", [1, 1, "B", 1, "P"]);
    graph.input("chunkMask", "float32", [1, 1, "B", "GS", "S"]);
    graph.input("sampledRows", "int32", ["sampled"]);
    graph.input("keyValuePool", "float32", ["poolRows", this.#blockSize * headDim]);
    graph.input("groupTokens", "int32", ["n", 1, "m"]);
    const sites = loraSites(this.#spec.dims);
    for (const parts of new Set(sites.map((site) => site.parts.length))) {
      const where = parts === 1 ? ["n", 1, "m", 1] : ["n", parts, "m", 2];
      graph.input(`scatter${parts}`, "int64", where);
    }
    for (let layer = 0; layer < layers; layer++) {
      for (const site of sites) {
        const { a, b } = loraInputs(layer, site);
        graph.input(a, "float32", ["n", site.modules.length, "R", site.in]);
        graph.input(b, "float32", ["n", site.parts.length, "R", site.partOut]);
      }
    }
  }

  async #constants(): Promise<void> {
    const graph = this.#graph;
    const { dims } = this.#spec;
    const { layers, keyValueHeads, headDim, heads, contextLength } = dims;
    const { rope } = this.#spec.attentions[0]!;
    const { cos, sin } = rotaryTables(rope, dims);
    await graph.weight("cos", "float32", [contextLength, headDim / 2], cos);
    await graph.weight("sin", "float32", [contextLength, headDim / 2], sin);
    graph.ints("shape.heads", [-1, heads + 2 * keyValueHeads, headDim]);
    graph.ints("shape.cached", [1, keyValueHeads, 0, -1, headDim]);
    graph.ints("shape.headRows", [-1, headDim]);
    graph.ints("shape.attended", [-1, heads * headDim]);
    for (const site of loraSites(dims)) {
      const { name, parts, modules, partOut } = site;
      if (parts.length > 1) graph.ints(`shape.${name}`, [-1, parts.length, partOut]);
      if (parts.length > modules.length) {
        graph.ints(
          `partModules.${name}`,
          parts.map(({ module }) => module),
        );
      }
    }
    graph.ints("shape.feedForward", [-1, dims.intermediateSize]);

    // The pool's rows of a block are ordered by layer, then key or value, then head.
    const planes = Array.from({ length: 2 * layers }, (_, plane) => plane);
    graph.int32s(
      "planeOffsets",
      planes.map((plane) => plane * keyValueHeads),
      [2 * layers, 1, 1, 1],
    );
    graph.op("Add", ["blockRows", "planeOffsets"], "planeRows");
    graph.ints(
      "ones.planes",
      planes.map(() => 1),
    );
    graph.node(
      "",
      "Split",
      ["planeRows", "ones.planes"],
      planes.map((plane) => `plane${plane}`),
      {
        axis: 0,
      },
    );
    const size = { start: 4, end: 5 };
    graph.op("Shape", ["pastMask"], "size.past", size);
    graph.op("Shape", ["chunkMask"], "size.chunk", size);
    graph.op("Concat", ["size.past", "size.chunk"], "sizes.attention", { axis: 0 });
    graph.ints("sizes.gateUp", [1, 1]);
  }

  /** RMSNorm of `hidden + update`; the sum goes on as the residual. */
  async #norm(
    output: string,
    { hidden, update, weight }: { hidden: string; update: string | undefined; weight: string },
  ): Promise<{ normed: string; sum: string }> {
    const graph = this.#graph;
    const epsilon = { float: this.#spec.normEpsilon };
    const values = await this.#weights.vector(weight);
    await graph.weight(`${output}.norm`, "float32", [values.length], values);
    if (update === undefined) {
      const inputs = [hidden, `${output}.norm`];
      const attributes = { axis: -1, epsilon, stash_type: 1 };
      return {
        normed: graph.op("SimplifiedLayerNormalization", inputs, output, attributes),
        sum: hidden,
      };
    }
    graph.node(
      "com.microsoft",
      "SkipSimplifiedLayerNormalization",
      [hidden, update, `${output}.norm`],
      [output, "", "", `${output}.sum`],
      { epsilon },
    );
    return { normed: output, sum: `${output}.sum` };
  }

  async #attention(name: string, x: string, index: number): Promise<string> {
    const graph = this.#graph;
    const layer = this.#spec.tensors.layer(index);
    const qkv = await this.#adapted(
      index,
      "qkv",
      x,
      layer.qkv.map(({ tensor }) => tensor),
    );

    // All heads of a token turn in one node, as if they were a sequence; value heads are given position
    // 0, which turns nothing.
    const heads = graph.op("Reshape", [qkv, "shape.heads"], `${name}.heads`);
    const inputs = [heads, "positions", "cos", "sin"];
    const turned = graph.contrib("RotaryEmbedding", inputs, `${name}.turned`, { num_heads: 1 });
    const rows = graph.op("Reshape", [turned, "shape.headRows"], `${name}.headRows`);
    const query = graph.op("Gather", [rows, "queryRows"], `${name}.q`, { axis: 0 });
    const key = graph.op("Gather", [rows, "keyRows"], `${name}.k`, { axis: 0 });
    const value = graph.op("Gather", [rows, "valueRows"], `${name}.v`, { axis: 0 });
    this.#newKeyValues.push(key, value);

    const cachedKey = this.#cached(`${name}.cachedK`, `plane${2 * index}`);
    const cachedValue = this.#cached(`${name}.cachedV`, `plane${2 * index + 1}`);
    const pastScores = this.#scores(`${name}.past`, query, cachedKey, "pastMask");
    const chunkScores = this.#scores(`${name}.chunk`, query, key, "chunkMask");
    const scores = graph.op("Concat", [pastScores, chunkScores], `${name}.scores`, { axis: -1 });
    const weights = graph.op("Softmax", [scores], `${name}.weights`, { axis: -1 });
    const parts = [`${name}.pastWeights`, `${name}.chunkWeights`] as const;
    graph.node("", "Split", [weights, "sizes.attention"], parts, { axis: -1 });
    const sum = graph.op(
      "Add",
      [
        graph.op("MatMul", [parts[0], cachedValue], `${name}.pastSum`),
        graph.op("MatMul", [parts[1], value], `${name}.chunkSum`),
      ],
      `${name}.sum`,
    );
    const sums = graph.op("Reshape", [sum, "shape.headRows"], `${name}.sums`);
    const byToken = graph.op("Gather", [sums, "attendedRows"], `${name}.byToken`, { axis: 0 });
    const attended = graph.op("Reshape", [byToken, "shape.attended"], `${name}.attended`);
    return this.#adapted(index, "o", attended, [layer.attentionOutput]);
  }

  /** Cached keys or values of every row, `[1, KV, B, P, D]`. */
  #cached(output: string, plane: string): string {
    const blocks = this.#graph.op("Gather", ["keyValuePool", plane], `${output}.blocks`, {
      axis: 0,
    });
    return this.#graph.op("Reshape", [blocks, "shape.cached"], output);
  }

  #scores(output: string, query: string, key: string, mask: string): string {
    const alpha = { float: this.#spec.attentions[0]!.scale };
    const attributes = { transB: 1, alpha };
    const scores = this.#graph.contrib("FusedMatMul", [query, key], `${output}.dots`, attributes);
    return this.#graph.op("Add", [scores, mask], output);
  }

  async #feedForward(name: string, x: string, index: number): Promise<string> {
    const graph = this.#graph;
    const layer = this.#spec.tensors.layer(index);
    const gateUp = await this.#adapted(
      index,
      "gateUp",
      x,
      layer.gateUp.map(({ tensor }) => tensor),
    );
    const [gate, up] = [`${name}.gate`, `${name}.up`] as const;
    graph.node("", "Split", [gateUp, "sizes.gateUp"], [gate, up], { axis: 1 });
    // QuickGelu with alpha 1 is x · sigmoid(x), which is SiLU, in one node.
    const silu = graph.contrib("QuickGelu", [gate], `${name}.silu`, { alpha: { float: 1 } });
    const gated = graph.op("Mul", [silu, up], `${name}.gated`);
    const flat = graph.op("Reshape", [gated, "shape.feedForward"], `${name}.flat`);
    return this.#adapted(index, "down", flat, [layer.down]);
  }

  async #logits(normed: string): Promise<void> {
    const graph = this.#graph;
    const { dims, tensors, tiedEmbedding } = this.#spec;
    const rows = graph.op("Gather", [normed, "sampledRows"], "sampledHidden", { axis: 0 });
    const format = this.#formats.logits;
    if (format.quantizesRows) {
      graph.op("Gather", ["rowZeroPoint", "sampledRows"], "sampledZeroPoint", { axis: 0 });
    }
    const activation = format.prepare(graph, rows, {
      width: dims.hiddenSize,
      zeroPoints: "sampledZeroPoint",
    });
    const source = tiedEmbedding ? tensors.embedding : tensors.output;
    await format.multiply(graph, activation, this.#weights.matrix("logits", [source]));
  }

  /**
   * The base's product plus what adapters add: `y + (x·Aᵀ)·B` for the tokens of each group.
   * ScatterND adds in place and touches only rows of adapted tokens. So base rows cost nothing and stay
   * bit for bit, and a weight that is not a number stays in the rows of its adapter.
   */
  async #adapted(
    layer: number,
    siteName: LoraSite["name"],
    x: string,
    tensors: string[],
  ): Promise<string> {
    const graph = this.#graph;
    const site = loraSites(this.#spec.dims).find(({ name }) => name === siteName);
    if (!site) throw new Error(`no LoRA site ${siteName}`);
    const name = `layer${layer}.${siteName}`;
    const format = this.#formats[siteName];
    const matrix = this.#weights.matrix(`${name}.base`, tensors);
    const activation = format.prepare(graph, x, { width: site.in, zeroPoints: "rowZeroPoint" });
    let base = await format.multiply(graph, activation, matrix);

    const parts = site.parts.length;
    const { a, b } = loraInputs(layer, site);
    const grouped = graph.op("Gather", [x, "groupTokens"], `${name}.grouped`, { axis: 0 });
    let low = graph.contrib("FusedMatMul", [grouped, a], `${name}.low`, { transB: 1 });
    if (parts > site.modules.length) {
      low = graph.op("Gather", [low, `partModules.${siteName}`], `${name}.lows`, { axis: 1 });
    }
    const delta = graph.op("MatMul", [low, b], `${name}.delta`);
    if (parts > 1) base = graph.op("Reshape", [base, `shape.${siteName}`], `${name}.parts`);
    const inputs = [base, `scatter${parts}`, delta];
    return graph.op("ScatterND", inputs, `${name}.y`, { reduction: "add" });
  }
}
