/** Blocks of neighbouring tokens of the vocabulary, which sums and peaks are told for. */
import type { OnnxGraph } from "./onnx-graph.ts";

/** Tokens of a block; the last block of a vocabulary may be shorter. */
export const blockTokens = 256;

export function blocksOf(vocabSize: number): number {
  return Math.ceil(vocabSize / blockTokens);
}

/**
 * Emits `[rows, vocabSize]` as `[rows, blocks, blockTokens]`.
 * @param filler what the last block is filled up with
 */
export function inBlocks(
  graph: OnnxGraph,
  x: string,
  { vocabSize, filler }: { vocabSize: number; filler: number },
): string {
  const missing = blocksOf(vocabSize) * blockTokens - vocabSize;
  const padding = graph.ints(`${x}.padding`, [0, 0, 0, missing]);
  const value = graph.floats(`${x}.filler`, [filler], []);
  const whole = missing === 0 ? x : graph.op("Pad", [x, padding, value], `${x}.whole`);
  const shape = graph.ints("shape.tokenBlocks", [0, -1, blockTokens]);
  return graph.op("Reshape", [whole, shape], `${x}.blocks`);
}

/** Emits the largest of each block of `inBlocks`, `[rows, blocks]`. */
export function peaksOf(graph: OnnxGraph, blocks: string, output: string): string {
  const axis = graph.ints("axis.inBlock", [2]);
  return graph.op("ReduceMax", [blocks, axis], output, { keepdims: 0 });
}
