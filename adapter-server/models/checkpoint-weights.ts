/** A checkpoint's tensors as the graph wants them: stacked matrices, vectors, the embedding; all checked. */
import { HubError } from "../../sdk/protocol/errors.ts";
import type { DecoderWeights } from "./decoder-graph.ts";
import type { WeightFiles } from "./model-source.ts";
import type { LayerTensors, ModelSpec, StackedTensor } from "./model-spec.ts";
import type { ElementType } from "./onnx-proto.ts";
import type { MatrixSource } from "./weight-format.ts";

/**
 * Matrices and vectors with a value that is not a finite number are refused when they are read, as
 * `unsupported_model`: nothing that is computed with one would be a number.
 * @param onProgress called after each weight with the share that is done, 0 to 1
 */
export function checkpointWeights(
  checkpoint: WeightFiles,
  spec: ModelSpec,
  onProgress: ((done: number) => void) | undefined,
): DecoderWeights {
  const all = checkpoint.names().length + 1;
  let stored = 0;
  const progress = (count: number) => {
    stored += count;
    onProgress?.(Math.min(1, stored / all));
  };
  return {
    matrix(name, tensors) {
      const source = stackedRows(checkpoint, spec, { name, tensors });
      return {
        ...source,
        read(from, to) {
          if (from === 0) progress(tensors.length);
          return source.read(from, to);
        },
      };
    },
    async vector(tensor) {
      progress(1);
      return readNumbers(checkpoint, tensor);
    },
    async embed(graph, tokens) {
      const { embedding } = spec.tensors;
      const { vocabSize, hiddenSize } = spec.dims;
      const type = storedTypes[checkpoint.dtype(embedding)];
      if (!type) throw new Error(`no element type for ${checkpoint.dtype(embedding)}`);
      const shape = [vocabSize, hiddenSize];
      await graph.weightParts("embedding", type, shape, async (append) => {
        for (let from = 0; from < vocabSize; from += embeddingRowsPerPart) {
          const to = Math.min(from + embeddingRowsPerPart, vocabSize);
          await append(await checkpoint.readStored(embedding, from, to));
        }
        progress(1);
      });
      const rows = graph.op("Gather", ["embedding", tokens], "embedded", { axis: 0 });
      return type === "float32" ? rows : graph.op("Cast", [rows], "embedded32", { to: 1 });
    },
  };
}

/** Some matrices of equal width, one under the other. */
function stackedRows(
  checkpoint: WeightFiles,
  spec: ModelSpec,
  { name, tensors }: { name: string; tensors: readonly string[] },
): MatrixSource {
  const shapes = new Map(expectedShapes(spec));
  const parts = tensors.map((tensor) => ({ tensor, shape: shapes.get(tensor) ?? [] }));
  const columns = parts[0]?.shape[1] ?? 0;
  return {
    name,
    in: columns,
    out: parts.reduce((rows, { shape }) => rows + (shape[0] ?? 0), 0),
    async read(from, to) {
      const [only] = parts;
      if (parts.length === 1 && only) return readNumbers(checkpoint, only.tensor, from, to);
      const result = new Float32Array((to - from) * columns);
      let start = 0;
      for (const { tensor, shape } of parts) {
        const end = start + (shape[0] ?? 0);
        const [first, last] = [Math.max(from, start), Math.min(to, end)];
        if (first < last) {
          const rows = await readNumbers(checkpoint, tensor, first - start, last - start);
          result.set(rows, (first - from) * columns);
        }
        start = end;
      }
      return result;
    },
  };
}

async function readNumbers(
  checkpoint: WeightFiles,
  tensor: string,
  from?: number,
  to?: number,
): Promise<Float32Array> {
  const values = await checkpoint.read(tensor, from, to);
  // Zero times a number is zero, and times what is none is not: one test for all of them.
  let zero = 0;
  for (let i = 0; i < values.length; i++) zero += 0 * values[i]!;
  if (zero === 0) return values;
  throw new HubError(
    "unsupported_model",
    `Tensor '${tensor}' has values that are infinite or not numbers; the file is damaged, or was so when it was made.`,
  );
}

/**
 * Fails closed: a weight that would not be computed with means that this is another model.
 * @throws HubError `unsupported_model` that names the tensor
 */
export function checkShapes(checkpoint: WeightFiles, spec: ModelSpec): void {
  const expected = new Map(expectedShapes(spec));
  for (const [name, shape] of expected) checkpoint.expectShape(name, shape);
  const left = checkpoint.names().find((name) => !expected.has(name) && !unused.test(name));
  if (left !== undefined) {
    throw new HubError(
      "unsupported_model",
      `The checkpoint has a tensor '${left}' that its config has no place for.`,
    );
  }
}

/** Every tensor that the spec names, with its shape. */
function expectedShapes({ dims, tensors, tiedEmbedding }: ModelSpec): TensorShape[] {
  const { hiddenSize, vocabSize, layers } = dims;
  const perLayer = Array.from({ length: layers }, (_, index) =>
    layerShapes(tensors.layer(index), dims),
  );
  const output: TensorShape[] = tiedEmbedding ? [] : [[tensors.output, [vocabSize, hiddenSize]]];
  return [
    [tensors.embedding, [vocabSize, hiddenSize]],
    [tensors.finalNorm, [hiddenSize]],
    ...output,
    ...perLayer.flat(),
  ];
}

function layerShapes(layer: LayerTensors, dims: ModelSpec["dims"]): TensorShape[] {
  const { hiddenSize, intermediateSize, heads, headDim } = dims;
  const { headNorms, outputNorms } = layer;
  const matrix = ({ tensor, rows }: StackedTensor): TensorShape => [tensor, [rows, hiddenSize]];
  const shapes: TensorShape[] = [
    [layer.inputNorm, [hiddenSize]],
    ...layer.qkv.map(matrix),
    ...layer.qkvBias.map(({ tensor, rows }): TensorShape => [tensor, [rows]]),
    [layer.attentionOutput, [hiddenSize, heads * headDim]],
    [layer.feedForwardNorm, [hiddenSize]],
    ...layer.gateUp.map(matrix),
    [layer.down, [hiddenSize, intermediateSize]],
  ];
  if (headNorms) shapes.push([headNorms.query, [headDim]], [headNorms.key, [headDim]]);
  if (outputNorms) {
    shapes.push([outputNorms.attention, [hiddenSize]], [outputNorms.feedForward, [hiddenSize]]);
  }
  return shapes;
}

type TensorShape = [name: string, shape: number[]];

/** Tensors of old checkpoints that are computed from the config, and the copy that a tied one may hold. */
const unused = /\.rotary_emb\.inv_freq$|^lm_head\.weight$/;

const storedTypes: Record<string, ElementType> = {
  F32: "float32",
  F16: "float16",
  BF16: "bfloat16",
};
const embeddingRowsPerPart = 4096;
