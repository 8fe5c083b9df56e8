/** An embedding that stays quantized: 8-bit blocks, which a tied output matrix reads from the same bytes. */
import type { OnnxGraph } from "./onnx-graph.ts";
import { type BlockSize, eachPart, type MatrixSource, toBlocks } from "./weight-format.ts";

export const embeddingName = "embedding";

/**
 * Stores the embedding `[vocabulary, hidden]` and emits its lookup.
 * @param tokens name of the input `[T]`
 * @returns name of `[T, hidden]` in float32
 */
export async function embedBlocks(
  graph: OnnxGraph,
  tokens: string,
  matrix: MatrixSource,
): Promise<string> {
  const { name, in: width, out } = matrix;
  const blocksPerRow = Math.ceil(width / blockSize);
  const scales = new Float32Array(out * blocksPerRow);
  await graph.weightParts(`${name}.weight`, "uint8", [out, width], (append) =>
    eachPart(matrix, async (rows, from) => {
      const count = rows.length / width;
      const part = scales.subarray(from * blocksPerRow, (from + count) * blocksPerRow);
      const levels = toBlocks(rows, width, { bits: 8, blockSize, scales: part });
      await append(withoutPadding(levels, width, blocksPerRow * blockSize));
    }),
  );
  await graph.weight(`${name}.scale`, "float32", [out, blocksPerRow], () => scales);
  const inputs = [`${name}.weight`, tokens, `${name}.scale`];
  const attributes = { bits: 8, block_size: blockSize, gather_axis: 0, quantize_axis: 1 };
  return graph.contrib("GatherBlockQuantized", inputs, "embedded", attributes);
}

/** The embedding as the matrix of logits, in the bytes that `embedBlocks` stored where rows are whole blocks. */
export function tiedToEmbedding(matrix: MatrixSource): MatrixSource {
  if (matrix.in % blockSize !== 0) return matrix;
  return { ...matrix, stored: { name: embeddingName, bits: 8, blockSize } };
}

/** Products want whole blocks, lookups want none that reach past a row. */
function withoutPadding(rows: Uint8Array, width: number, padded: number): Uint8Array {
  if (width === padded) return rows;
  const count = rows.length / padded;
  const result = new Uint8Array(count * width);
  for (let row = 0; row < count; row++) {
    result.set(rows.subarray(row * padded, row * padded + width), row * width);
  }
  return result;
}

/** Half of what 8-bit rows err, for a sixteenth more bytes. */
const blockSize: BlockSize = 64;
