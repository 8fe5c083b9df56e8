/** What each format would cost one matrix, measured on what the matrix is really multiplied with. */
import type { Product } from "./product.ts";
import type { MatrixFormat } from "./recipe.ts";
import { roundBlocks, roundGroups, roundRows, roundRowsTwice, scaleColumns } from "./simulate.ts";

/** A matrix `[out, in]` and inputs of it `[tokens, in]`. */
export type MatrixPass = { x: Float32Array; weight: Float32Array; in: number; out: number };

export type Assessment = {
  in: number;
  out: number;
  /** For each format the square of ‖y′ − y‖ / ‖y‖, mean over tokens. */
  errors: Partial<Record<MatrixFormat, number>>;
  /** The divisors of the input channels that smooth best. */
  divisors: Float32Array;
};

/** @param tokens the inputs that are looked at; the first of a sequence are unlike all others and belong to them */
export async function assessMatrix(
  pass: MatrixPass,
  {
    tokens,
    formats,
    product,
  }: { tokens: readonly number[]; formats: readonly MatrixFormat[]; product: Product },
): Promise<Assessment> {
  const width = pass.in;
  const x = pickRows(pass.x, width, tokens);
  const weight = pickRows(pass.weight, width, spread(pass.out, outputsMax));
  const exact = await product.multiply(x, weight, width);
  const errorOf = async (roundedX: Float32Array, roundedWeight: Float32Array) =>
    meanError(await product.multiply(roundedX, roundedWeight, width), exact, tokens.length);

  const errors: Assessment["errors"] = {};
  let best: { divisors: Float32Array; error: number } = {
    divisors: new Float32Array(width).fill(1),
    error: Number.POSITIVE_INFINITY,
  };
  for (const format of formats) {
    if (format === "smooth") {
      const ranges = {
        x: largestByColumn(pass.x, width),
        weight: largestByColumn(pass.weight, width),
      };
      for (const exponent of exponents) {
        const divisors = smoothingDivisors(ranges, exponent);
        const even = scaleColumns(
          x,
          divisors.map((divisor) => 1 / divisor),
        );
        const error = await errorOf(
          roundRows(even, width),
          roundRows(scaleColumns(weight, divisors), width),
        );
        if (error < best.error) best = { divisors, error };
      }
      errors.smooth = best.error;
    } else {
      const rounded = round(format, { x, weight, width });
      errors[format] = await errorOf(rounded.x, rounded.weight);
    }
  }
  return { in: width, out: pass.out, errors, divisors: best.divisors };
}

function round(
  format: Exclude<MatrixFormat, "smooth">,
  { x, weight, width }: { x: Float32Array; weight: Float32Array; width: number },
): { x: Float32Array; weight: Float32Array } {
  const inBlocks = (bits: 4 | 8, blockSize: 32 | 64 | 128) => ({
    x: roundGroups(x, width, { group: blockSize }),
    weight: roundBlocks(weight, width, { bits, blockSize }),
  });
  switch (format) {
    case "float32":
      return { x, weight };
    case "rows":
      return { x: roundRows(x, width), weight: roundRows(weight, width) };
    case "rows16":
      return { x: roundRowsTwice(x, width), weight: roundRows(weight, width) };
    case "block8x64":
      return inBlocks(8, 64);
    case "block8x128":
      return inBlocks(8, 128);
    case "block4x32":
      return inBlocks(4, 32);
    case "block4x128":
      return inBlocks(4, 128);
    default:
      return format satisfies never;
  }
}

/**
 * Divisors that share out between activations and weights what is hard to round.
 * @param exponent how much of it the weights take over
 * @see SmoothQuant, arXiv:2211.10438 §4
 */
function smoothingDivisors(
  ranges: { x: Float32Array; weight: Float32Array },
  exponent: number,
): Float32Array {
  return ranges.x.map((largest, column) => {
    const weight = Math.max(ranges.weight[column]!, leastRange);
    return Math.max(largest, leastRange) ** exponent / weight ** (1 - exponent);
  });
}

/** Of every token on its own, so that none counts for more than others because its numbers are large. */
function meanError(rounded: Float32Array, exact: Float32Array, tokens: number): number {
  const width = exact.length / tokens;
  let sum = 0;
  for (let token = 0; token < tokens; token++) {
    let [difference, size] = [0, 0];
    for (let i = token * width; i < (token + 1) * width; i++) {
      difference += (rounded[i]! - exact[i]!) ** 2;
      size += exact[i]! ** 2;
    }
    if (size > 0) sum += difference / size;
  }
  return sum / tokens;
}

function largestByColumn(values: Float32Array, width: number): Float32Array {
  const largest = new Float32Array(width);
  for (let row = 0; row < values.length; row += width) {
    for (let i = 0; i < width; i++) {
      const magnitude = Math.abs(values[row + i]!);
      if (magnitude > largest[i]!) largest[i] = magnitude;
    }
  }
  return largest;
}

function pickRows(values: Float32Array, width: number, rows: readonly number[]): Float32Array {
  const picked = new Float32Array(rows.length * width);
  rows.forEach((row, index) => {
    picked.set(values.subarray(row * width, (row + 1) * width), index * width);
  });
  return picked;
}

/** At most `max` of the numbers below `count`, evenly spread. */
export function spread(count: number, max: number): number[] {
  const step = Math.max(1, count / max);
  return Array.from({ length: Math.min(count, max) }, (_, index) => Math.floor(index * step));
}

/** Outputs of a matrix that its error is measured on. */
const outputsMax = 256;
const exponents = [0.5, 0.65, 0.8];
const leastRange = 1e-5;
