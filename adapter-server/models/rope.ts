/** Frequencies of rotary position embedding. */
import type { Rope, RopeScaling } from "./model-spec.ts";

/**
 * How far each pair of a head turns from one position to the next, `[headDim / 2]`, in radians.
 * @see RoFormer, arXiv:2104.09864 §3.4; the scalings as in transformers' `modeling_rope_utils`
 */
export function rotaryFrequencies({ theta, scaling }: Rope, headDim: number): Float32Array {
  const half = headDim / 2;
  // The reference computes frequencies and angles in float32; so do we, or far positions drift apart.
  return Float32Array.from({ length: half }, (_, pair) =>
    scaled(Math.fround(theta ** (-pair / half)), scaling, { pair, half, theta }),
  );
}

/**
 * What turned queries and keys are multiplied with. The angles leave it out, so that a head at position
 * 0 stays as it is; whoever scales the products of queries and keys multiplies by its square.
 */
export function attentionFactor({ scaling }: Rope): number {
  if (scaling.type !== "yarn") return 1;
  return scaling.attentionFactor ?? 0.1 * Math.log(Math.max(1, scaling.factor)) + 1;
}

type Pair = { pair: number; half: number; theta: number };

function scaled(frequency: number, scaling: RopeScaling, pair: Pair): number {
  switch (scaling.type) {
    case "default":
      return frequency;
    case "linear":
      return frequency / scaling.factor;
    case "llama3": {
      const { factor, lowFrequencyFactor: low, highFrequencyFactor: high } = scaling;
      // How often the pair turns within the original context decides: few turns are stretched.
      const turns = (scaling.originalContextLength * frequency) / (2 * Math.PI);
      if (turns < low) return frequency / factor;
      if (turns > high) return frequency;
      const smooth = (turns - low) / (high - low);
      return ((1 - smooth) * frequency) / factor + smooth * frequency;
    }
    case "yarn": {
      const stretch = yarnStretch(scaling, pair);
      return (frequency / scaling.factor) * stretch + frequency * (1 - stretch);
    }
    case "divisors":
      return frequency / (scaling.divisors[pair.pair] ?? 1);
    default:
      return scaling satisfies never;
  }
}

/** From 0 for pairs that turn fast to 1 for pairs that turn slowly. @see YaRN, arXiv:2309.00071 §3.2 */
function yarnStretch(
  scaling: Extract<RopeScaling, { type: "yarn" }>,
  { pair, half, theta }: Pair,
): number {
  const { originalContextLength, turnsFast, turnsSlow, truncate } = scaling;
  // The pair, as a fraction, that turns so many times within the original context.
  const pairOf = (turns: number) =>
    (half * Math.log(originalContextLength / (turns * 2 * Math.PI))) / Math.log(theta);
  const fast = truncate ? Math.floor(pairOf(turnsFast)) : pairOf(turnsFast);
  const slow = truncate ? Math.ceil(pairOf(turnsSlow)) : pairOf(turnsSlow);
  const from = Math.max(fast, 0);
  const to = Math.min(slow, 2 * half - 1);
  const width = to === from ? 0.001 : to - from;
  return Math.min(1, Math.max(0, (pair - from) / width));
}
