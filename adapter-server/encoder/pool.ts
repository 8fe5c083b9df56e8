/** Makes a sentence's vector of its tokens' states, as sentence-transformers' `Pooling` does. */

export type EncoderPooling = "mean" | "cls" | "max" | "last";

/**
 * @param states `[tokens, width]` of one row; those behind its own `length` are padding
 * @returns `[width]`
 */
export function pool(
  states: Float32Array,
  { pooling, length, width }: { pooling: EncoderPooling; length: number; width: number },
): Float32Array {
  const stateOf = (token: number) => states.subarray(token * width, (token + 1) * width);
  switch (pooling) {
    case "cls":
      return stateOf(0).slice();
    case "last":
      return stateOf(length - 1).slice();
    case "max": {
      const most = stateOf(0).slice();
      for (let token = 1; token < length; token++) {
        for (const [i, value] of stateOf(token).entries()) most[i] = Math.max(most[i]!, value);
      }
      return most;
    }
    case "mean": {
      const sums = new Float64Array(width);
      for (let token = 0; token < length; token++) {
        for (const [i, value] of stateOf(token).entries()) sums[i]! += value;
      }
      return Float32Array.from(sums, (sum) => sum / length);
    }
    default:
      return pooling satisfies never;
  }
}
