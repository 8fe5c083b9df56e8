/** Emits the products of a layer: the base's matrix and bias, and on top of it what adapters add. */

import type { ModelDims } from "../engine/types.ts";
import { type LoraSite, loraInputs, loraSites, type SiteName, siteNames } from "../lora/sites.ts";
import type { DecoderWeights } from "./decoder-graph.ts";
import type { AdapterKind } from "./graph-files.ts";
import type { OnnxGraph } from "./onnx-graph.ts";
import type { WeightFormat } from "./weight-format.ts";

/** How each matrix is stored: those of each layer by site, and the one that yields logits. */
export type DecoderFormats = {
  /** As the checkpoint has it, or in blocks of 8 bits. */
  embedding: "stored" | "blocks";
  site(layer: number, name: SiteName): WeightFormat;
  logits: WeightFormat;
};

export class AdaptedLinear {
  readonly #graph: OnnxGraph;
  readonly #layers: number;
  readonly #sites: LoraSite[];
  readonly #weights: Pick<DecoderWeights, "matrix" | "vector">;
  readonly #formats: DecoderFormats;
  readonly #adapters: AdapterKind;

  constructor(
    graph: OnnxGraph,
    dims: ModelDims,
    {
      weights,
      formats,
      adapters,
    }: {
      weights: Pick<DecoderWeights, "matrix" | "vector">;
      formats: DecoderFormats;
      adapters: AdapterKind;
    },
  ) {
    this.#graph = graph;
    this.#layers = dims.layers;
    this.#sites = loraSites(dims);
    this.#weights = weights;
    this.#formats = formats;
    this.#adapters = adapters;
  }

  /** The adapters of a call, and which tokens are whose; with the constants that products need. */
  declareInputs(): void {
    if (this.#adapters === "none") return;
    const graph = this.#graph;
    graph.input("groupTokens", "int32", ["n", 1, "m"]);
    for (const parts of new Set(this.#sites.map((site) => site.parts.length))) {
      const where = parts === 1 ? ["n", 1, "m", 1] : ["n", parts, "m", 2];
      graph.input(`scatter${parts}`, "int64", where);
    }
    for (let layer = 0; layer < this.#layers; layer++) {
      for (const site of this.#sites) {
        const { a, b, gain } = loraInputs(layer, site);
        graph.input(a, "float32", ["n", site.modules.length, "R", site.in]);
        graph.input(b, "float32", ["n", site.parts.length, "R", site.partOut]);
        if (this.#adapters === "dora") {
          graph.input(gain, "float32", ["n", site.parts.length, 1, site.partOut]);
        }
      }
    }
    for (const site of this.#sites) {
      const { name, parts, partOut } = site;
      if (parts.length > 1) graph.ints(`shape.${name}`, [-1, parts.length, partOut]);
      if (sharesSome(site)) {
        graph.ints(
          `partModules.${name}`,
          parts.map(({ module }) => module),
        );
      }
    }
  }

  /**
   * The base's product plus what adapters add: `y + (x·Aᵀ)·B` for the tokens of each group.
   * ScatterND adds in place and touches only rows of adapted tokens. So base rows cost nothing and stay
   * bit for bit, and a weight that is not a number stays in the rows of its adapter.
   * @param tensors matrices of the checkpoint, stacked by rows
   * @param bias    vectors of the checkpoint, one after the other; none in most families
   * @returns `[T, out]`, or with adapters `[T, parts, partOut]` where the site has several parts
   */
  async multiply(
    layer: number,
    siteName: SiteName,
    x: string,
    { tensors, bias = [] }: { tensors: readonly string[]; bias?: readonly string[] },
  ): Promise<string> {
    const graph = this.#graph;
    const site = this.#sites.find(({ name }) => name === siteName);
    if (!site) throw new Error(`no LoRA site ${siteName}`);
    const name = `layer${layer}.${siteName}`;
    const format = this.#formats.site(layer, siteName);
    const matrix = this.#weights.matrix(`${name}.base`, tensors);
    const activation = await format.prepare(graph, x, {
      width: site.in,
      zeroPoints: "rowZeroPoint",
    });
    const product = await format.multiply(graph, activation, matrix);
    let base = product;
    if (bias.length > 0) base = await this.#addBias(name, base, { tensors: bias, out: matrix.out });
    if (this.#adapters === "none") return base;

    const parts = site.parts.length;
    const { a, b } = loraInputs(layer, site);
    const grouped = graph.op("Gather", [x, "groupTokens"], `${name}.grouped`, { axis: 0 });
    let low = graph.contrib("FusedMatMul", [grouped, a], `${name}.low`, { transB: 1 });
    if (sharesSome(site)) {
      low = graph.op("Gather", [low, `partModules.${siteName}`], `${name}.lows`, { axis: 1 });
    }
    let delta = graph.op("MatMul", [low, b], `${name}.delta`);
    if (this.#adapters === "dora") {
      delta = this.#addGain(name, delta, { product, site, layer });
    }
    if (parts > 1) base = graph.op("Reshape", [base, `shape.${siteName}`], `${name}.parts`);
    const inputs = [base, `scatter${parts}`, delta];
    return graph.op("ScatterND", inputs, `${name}.y`, { reduction: "add" });
  }

  /**
   * What DoRA adds to the updates of its tokens: the base's product, without the bias, times the adapter's gains. Those of
   * plain LoRA are zero, and so is what is added.
   */
  #addGain(
    name: string,
    delta: string,
    { product, site, layer }: { product: string; site: LoraSite; layer: number },
  ): string {
    const graph = this.#graph;
    const parts = site.parts.length;
    const cut =
      parts > 1
        ? graph.op("Reshape", [product, `shape.${site.name}`], `${name}.productParts`)
        : product;
    const own = graph.op("GatherND", [cut, `scatter${parts}`], `${name}.ownProduct`);
    const { gain } = loraInputs(layer, site);
    const gained = graph.op("Mul", [own, gain], `${name}.gained`);
    return graph.op("Add", [delta, gained], `${name}.scaledDelta`);
  }

  async #addBias(
    name: string,
    product: string,
    { tensors, out }: { tensors: readonly string[]; out: number },
  ): Promise<string> {
    await this.#graph.weight(`${name}.bias`, "float32", [out], async () => {
      const vectors: Float32Array[] = [];
      for (const tensor of tensors) vectors.push(await this.#weights.vector(tensor));
      return Float32Array.from(vectors.flatMap((vector) => [...vector]));
    });
    return this.#graph.op("Add", [product, `${name}.bias`], `${name}.biased`);
  }
}

/** Every format of a model of so many layers. */
export function allFormats(formats: DecoderFormats, layers: number): WeightFormat[] {
  const sites = Array.from({ length: layers }, (_, layer) =>
    siteNames.map((name) => formats.site(layer, name)),
  );
  return [...sites.flat(), formats.logits];
}

/** Some parts share a module's A and others do not; where all share one, the product repeats it by itself. */
function sharesSome({ parts, modules }: LoraSite): boolean {
  return modules.length > 1 && parts.length > modules.length;
}
