/** What becomes of a pooled vector on its way to a client: shortened, brought to length 1, written. */
import { HubError } from "../../sdk/protocol/errors.ts";

/**
 * Checks a request for shorter vectors before anything is computed.
 * @param width      of the model's own vectors
 * @param shortened  whether the model was trained so that the beginning of a vector stands for all of it
 * @throws HubError `number_out_of_range`, `unsupported_parameter`
 */
export function checkDimensions(
  dimensions: number | undefined,
  { width, shortened }: { width: number; shortened: boolean },
): void {
  if (dimensions === undefined || dimensions === width) return;
  if (dimensions > width) {
    throw new HubError(
      "number_out_of_range",
      `Invalid 'dimensions': this model's embeddings have ${width} dimensions.`,
      { param: "dimensions" },
    );
  }
  if (shortened) return;
  throw new HubError(
    "unsupported_parameter",
    `Unsupported parameter: 'dimensions'. Only a model that was trained for it (Matryoshka representations) keeps its meaning in fewer than its ${width} dimensions; whoever runs this server says so with ADAPTER_SERVER_MATRYOSHKA=true.`,
    { param: "dimensions" },
  );
}

/** The first `dimensions` values, and where asked for at length 1. */
export function finish(
  vector: Float32Array,
  { dimensions, normalizes }: { dimensions: number | undefined; normalizes: boolean },
): Float32Array {
  const kept = vector.subarray(0, dimensions ?? vector.length);
  if (!normalizes) return kept;
  let squares = 0;
  for (const value of kept) squares += value * value;
  // A vector of zeros has no direction, and stays what it is.
  const length = Math.sqrt(squares) || 1;
  return kept.map((value) => value / length);
}

/** As a client asked for it: numbers, or their bytes, little-endian, in base64. */
export function write(vector: Float32Array, encoding: "float" | "base64"): number[] | string {
  if (encoding === "float") return [...vector];
  const bytes = Buffer.alloc(vector.length * 4);
  for (const [index, value] of vector.entries()) bytes.writeFloatLE(value, 4 * index);
  return bytes.toString("base64");
}
