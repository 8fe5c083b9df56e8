/** Runs a finished import on the calibration text, and tells how far it is from float32. */
import type { ModelRunner, StepRow } from "../../engine/types.ts";
import type { GraphWeights } from "../graph-files.ts";
import type { Reference } from "./reference.ts";
import type { QuantizationCost } from "./report.ts";

/**
 * @param runner   of the import
 * @param expected float32's logits, `[positions, vocabulary]`
 * @param weights  with which all is computed
 */
export async function measureCost(
  runner: ModelRunner,
  reference: Reference,
  { expected, weights }: { expected: Float32Array; weights: GraphWeights },
): Promise<QuantizationCost> {
  const { vocabSize } = runner.dims;
  const divergences: number[] = [];
  let agreeing = 0;
  const isSingle = weights === "single";
  await eachPosition(runner, { ...reference, isSingle }, (index, logits) => {
    const exact = expected.subarray(index * vocabSize, (index + 1) * vocabSize);
    divergences.push(divergence(exact, logits));
    if (largestAt(exact) === largestAt(logits)) agreeing++;
  });
  const positions = divergences.length;
  divergences.sort((a, b) => a - b);
  return {
    positions,
    klMean: divergences.reduce((sum, value) => sum + value, 0) / positions,
    kl99: divergences[Math.min(positions - 1, Math.floor(0.99 * positions))] ?? 0,
    top1: agreeing / positions,
  };
}

/** Blocks of the key/value pool that a runner needs for it. */
export function blocksNeeded({ sequences }: Reference, blockSize: number): number {
  return sequences.reduce((sum, { length }) => sum + Math.ceil(length / blockSize), 0);
}

/** Computes all sequences side by side, a stride at a time, so that each compared position ends a chunk. */
async function eachPosition(
  runner: ModelRunner,
  { sequences, stride, positions, isSingle }: Reference & { isSingle: boolean },
  use: (index: number, logits: Float32Array) => void,
): Promise<void> {
  const indexOf = new Map(
    positions.map(({ sequence, position }, index) => [`${sequence}:${position}`, index]),
  );
  let nextBlock = 0;
  const blocks = sequences.map(({ length }) =>
    Array.from({ length: Math.ceil(length / runner.blockSize) }, () => nextBlock++),
  );
  for (let position = 0; ; position += stride) {
    const rows = sequences.flatMap((tokens, sequenceId): StepRow[] => {
      const chunk = tokens.slice(position, position + stride);
      if (chunk.length < stride) return [];
      const at = { position, blocks: blocks[sequenceId]!, slot: 0, isSingle };
      return [{ sequenceId, tokens: chunk, samples: 1, ...at }];
    });
    if (rows.length === 0) return;
    const logits = await runner.run([], rows);
    rows.forEach(({ sequenceId }, at) => {
      const index = indexOf.get(`${sequenceId}:${position + stride - 1}`);
      if (index !== undefined) use(index, logits[at]!);
    });
  }
}

/** Σ p · (log p − log q), in nats. */
function divergence(exact: Float32Array, logits: Float32Array): number {
  const [exactSum, sum] = [logSumOfExponentials(exact), logSumOfExponentials(logits)];
  let total = 0;
  for (let i = 0; i < exact.length; i++) {
    const logProbability = exact[i]! - exactSum;
    total += Math.exp(logProbability) * (logProbability - (logits[i]! - sum));
  }
  return Math.max(0, total);
}

function logSumOfExponentials(values: Float32Array): number {
  const largest = values[largestAt(values)]!;
  let sum = 0;
  for (const value of values) sum += Math.exp(value - largest);
  return largest + Math.log(sum);
}

function largestAt(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}
