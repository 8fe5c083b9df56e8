/**
 * DoRA: brings each row of `W + s·B·A` to a length of its own, `W' = m / ‖W + s·B·A‖ ⊙ (W + s·B·A)`.
 *
 * The factors are of one adapter and one base, so they are computed when the adapter is loaded: then `s·B` takes them
 * up, and what is left is to add `factor - 1` times the base's product to itself. The rows are those of the
 * checkpoint, as they were trained on, whatever format it is served in: quantizing a base that the adapter was merged
 * into changes no factor either.
 *
 * @see DoRA, arXiv:2402.09353 §4.1; PEFT's `DoraLinearLayer`, which scales the product without the module's bias
 */
import ort from "onnxruntime-node";
import { HubError } from "../../sdk/protocol/errors.ts";
import { sessionOptions } from "../engine/session-options.ts";
import type { LoraModule, LoraPair } from "../engine/types.ts";
import {
  type BaseCheckpoint,
  type BaseMatrices,
  openBaseMatrices,
} from "../models/base-matrices.ts";
import type { FileDigests } from "../models/model-digest.ts";
import { OnnxGraph } from "../models/onnx-graph.ts";

/**
 * Multiplies `b` of a pair with the module's factors, in place.
 * @param gain `[out]`: the magnitudes, and then the factors less one
 * @throws HubError `invalid_adapter` when a factor is no number that could be computed with
 */
export type ScaleByMagnitude = (
  pair: LoraPair,
  gain: Float32Array,
  at: { layer: number; module: LoraModule },
) => Promise<void>;

export type Dora = { scale: ScaleByMagnitude; close(): Promise<void> };

/** @throws HubError `adapter_base_mismatch` when the checkpoint is not the one that is served */
export async function openDora(checkpoint: BaseCheckpoint, known?: FileDigests): Promise<Dora> {
  const base = await openBaseMatrices(checkpoint, known);
  const product = await openRowLengths();
  return {
    scale: (pair, gain, at) => scalePair(pair, gain, { ...at, base, lengths: product.lengths }),
    close: async () => void (await Promise.all([base.close(), product.close()])),
  };
}

type PairContext = {
  layer: number;
  module: LoraModule;
  base: BaseMatrices;
  lengths: RowLengths["lengths"];
};

async function scalePair(
  { a: shared, b, rank }: LoraPair,
  gain: Float32Array,
  { layer, module, base, lengths }: PairContext,
): Promise<void> {
  // The runtime takes no memory that threads share.
  const a = shared.slice();
  const [out, width] = [gain.length, a.length / rank];
  const rowsMax = Math.max(1, Math.floor(valuesMax / width));
  for (let from = 0; from < out; from += rowsMax) {
    const to = Math.min(from + rowsMax, out);
    const part = { a, b: columnsOf(b, { out, from, to }), rank };
    const rows = await lengths(await base.read(layer, module, { from, to }), part);
    for (let row = from; row < to; row++) {
      const factor = gain[row]! / rows[row - from]!;
      // Written so that what is not a number is refused as well.
      if (!(Math.abs(factor) <= factorMax)) throw notScaled({ layer, module, row, factor });
      gain[row] = factor - 1;
      for (let k = 0; k < rank; k++) b[k * out + row]! *= factor;
    }
  }
}

type RowLengths = {
  /** `[rows]`: the length of each row of `W + s·B·A`. */
  lengths(w: Float32Array, pair: LoraPair): Promise<Float32Array>;
  close(): Promise<void>;
};

/** Natively and in one thread: the product takes `out · in · rank` steps, two billion and more for a small model. */
async function openRowLengths(): Promise<RowLengths> {
  const { model } = await OnnxGraph.withFedWeights(async (graph) => {
    graph.input("w", "float32", ["rows", "width"]);
    graph.input("a", "float32", ["rank", "width"]);
    graph.input("b", "float32", ["rank", "rows"]);
    graph.ints("axis.last", [-1]);
    graph.op("Gemm", ["b", "a", "w"], "updated", { transA: 1 });
    graph.op("ReduceL2", ["updated", "axis.last"], "lengths", { keepdims: 0 });
    graph.output("lengths", "float32", ["rows"]);
  });
  const session = await ort.InferenceSession.create(model, await sessionOptions(1));
  return {
    async lengths(w, { a, b, rank }) {
      const width = a.length / rank;
      const { lengths } = await session.run({
        w: new ort.Tensor("float32", w, [w.length / width, width]),
        a: new ort.Tensor("float32", a, [rank, width]),
        b: new ort.Tensor("float32", b, [rank, b.length / rank]),
      });
      return lengths!.data as Float32Array;
    },
    close: () => session.release(),
  };
}

/** Columns `[from, to)` of `[rank, out]`. */
function columnsOf(
  b: Float32Array,
  { out, from, to }: { out: number; from: number; to: number },
): Float32Array {
  const rank = b.length / out;
  const part = new Float32Array(rank * (to - from));
  for (let k = 0; k < rank; k++) {
    part.set(b.subarray(k * out + from, k * out + to), k * (to - from));
  }
  return part;
}

function notScaled(at: { layer: number; module: string; row: number; factor: number }): HubError {
  return new HubError(
    "invalid_adapter",
    `The magnitude of output ${at.row} of '${at.module}' in layer ${at.layer} makes a factor of ${at.factor}; at most ±${factorMax} is served.`,
    { details: at },
  );
}

/** Rows of a matrix are read and multiplied as many at a time as have so many values, 16 MB. */
const valuesMax = 1 << 22;
/** Trained factors are close to 1; what is beyond this is damage or sabotage. */
const factorMax = 1000;
