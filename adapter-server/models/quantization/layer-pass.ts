/**
 * Computes single layers in float32, each fed with its weights, so that memory holds one layer at a time whatever
 * the model's size. The graph is the engine's own (`buildLayer`), so every family is computed as it will be served.
 */
import ort from "onnxruntime-node";
import { AdapterSlots } from "../../engine/adapter-slots.ts";
import { KeyValuePool } from "../../engine/key-value-pool.ts";
import { sessionOptions } from "../../engine/session-options.ts";
import { type Feeds, StepFeeds } from "../../engine/step-feeds.ts";
import type { SiteName } from "../../lora/sites.ts";
import { buildLayer, type DecoderWeights } from "../decoder-graph.ts";
import type { ModelSpec } from "../model-spec.ts";
import { OnnxGraph } from "../onnx-graph.ts";
import { float32, type WeightFormat } from "../weight-format.ts";

/** A matrix and what it was multiplied with. */
export type SitePass = {
  site: SiteName;
  /** `[tokens, in]` */
  x: Float32Array;
  /** `[out, in]` */
  weight: Float32Array;
  in: number;
  out: number;
};

export class LayerPass {
  readonly #spec: ModelSpec;
  readonly #weights: DecoderWeights;
  readonly #sequences: readonly (readonly number[])[];
  readonly #threads: number;
  /** Graphs by their bytes: layers differ only in how they attend. */
  readonly #sessions: { model: Uint8Array; session: ort.InferenceSession }[] = [];

  /** @param sequences token ids, one sequence beside the other */
  constructor(
    spec: ModelSpec,
    {
      weights,
      sequences,
      threads,
    }: { weights: DecoderWeights; sequences: readonly (readonly number[])[]; threads: number },
  ) {
    this.#spec = spec;
    this.#weights = weights;
    this.#sequences = sequences;
    this.#threads = threads;
  }

  /**
   * @param hidden the residual before the layer, `[tokens of all sequences, hidden]`
   * @returns the residual after it, and the layer's four matrices with their inputs
   */
  async run(
    layer: number,
    hidden: Float32Array,
  ): Promise<{ after: Float32Array; sites: SitePass[] }> {
    const spec = layerSpec(this.#spec, layer);
    const recorder = new Recorder();
    const { model, weights } = await OnnxGraph.withFedWeights((graph) =>
      buildLayer(graph, spec, {
        weights: this.#weights,
        formats: { embedding: "stored", site: () => recorder.format, logits: float32 },
        blockSize,
        adapters: "none",
        keyValues: "f32",
      }),
    );
    const session = await this.#open(model);
    const feeds: Record<string, ort.Tensor> = {};
    for (const [name, { type, data, shape }] of Object.entries(this.#feeds(spec))) {
      if (session.inputNames.includes(name)) feeds[name] = new ort.Tensor(type, data, shape);
    }
    for (const [name, { bytes, shape }] of weights) {
      feeds[name] = new ort.Tensor("float32", asFloats(bytes), shape);
    }
    feeds.hidden = new ort.Tensor("float32", hidden, [
      hidden.length / spec.dims.hiddenSize,
      spec.dims.hiddenSize,
    ]);
    const results = await session.run(feeds);
    const floats = (name: string) => results[name]?.data as Float32Array;
    const sites = recorder.sites.map(({ site, x, weight, ...sizes }) => ({
      site,
      x: floats(x),
      weight: asFloats(weights.get(weight)!.bytes),
      ...sizes,
    }));
    return { after: floats("after"), sites };
  }

  async close(): Promise<void> {
    for (const { session } of this.#sessions) await session.release();
  }

  async #open(model: Uint8Array): Promise<ort.InferenceSession> {
    const known = this.#sessions.find((one) => Buffer.compare(one.model, model) === 0);
    if (known) return known.session;
    const session = await ort.InferenceSession.create(model, await sessionOptions(this.#threads));
    this.#sessions.push({ model, session });
    return session;
  }

  /** All sequences from their beginning, with nothing cached and no adapters. */
  #feeds({ dims }: ModelSpec): Feeds {
    const pool = new KeyValuePool({ dims, blocks: 0, blockSize, type: "f32" });
    const slots = new AdapterSlots({ dims, slots: 0, rankMax: 1 });
    const rows = this.#sequences.map((tokens, sequenceId) => ({
      sequenceId,
      tokens,
      position: 0,
      blocks: [],
      slot: 0,
      samples: 1,
    }));
    const run = slots.arrange([]);
    return new StepFeeds({ dims, blockSize, pool }).build(rows, { slots, run }).feeds;
  }
}

/** Notes what every matrix is multiplied with, and has the graph put it out. */
class Recorder {
  readonly sites: { site: SiteName; x: string; weight: string; in: number; out: number }[] = [];
  readonly format: WeightFormat = {
    ...float32,
    multiply: (graph, x, matrix) => {
      const [, site] = matrix.name.split(".");
      const { in: width, out, name } = matrix;
      graph.output(x.value, "float32", ["T", width]);
      this.sites.push({
        site: site as SiteName,
        x: x.value,
        weight: `${name}.weight`,
        in: width,
        out,
      });
      return float32.multiply(graph, x, matrix);
    },
  };
}

/** A model of that one layer. */
function layerSpec(spec: ModelSpec, layer: number): ModelSpec {
  const attention = spec.layerAttention[layer]!;
  return {
    ...spec,
    dims: { ...spec.dims, layers: 1, windows: [spec.dims.windows[attention]!] },
    attentions: [spec.attentions[attention]!],
    layerAttention: [0],
    tensors: { ...spec.tensors, layer: () => spec.tensors.layer(layer) },
  };
}

function asFloats({ buffer, byteOffset, byteLength }: Uint8Array): Float32Array {
  return new Float32Array(buffer, byteOffset, byteLength / 4);
}

/** Of a cache that holds nothing. */
const blockSize = 16;
