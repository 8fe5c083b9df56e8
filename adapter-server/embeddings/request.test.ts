/** What an embeddings request may say, and what is made of a vector. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { readEmbeddingsRequest } from "./request.ts";
import { checkDimensions, finish, write } from "./vectors.ts";

const limits = { baseId: "base", mixPartsMax: 2, embeddingInputsMax: 3 };
const read = (fields: Record<string, unknown>) =>
  readEmbeddingsRequest({ model: "base", input: "a", ...fields }, limits);

test.each([
  ["a text", "a", ["a"]],
  ["texts", ["a", "b"], ["a", "b"]],
  ["tokens", [1, 2], [[1, 2]]],
  ["tokens of some texts", [[1], [2, 3]], [[1], [2, 3]]],
])("an input is %s", (_name, input, inputs) => {
  expect(read({ input }).inputs).toEqual(inputs);
});

test.each([
  ["", "input"],
  [[], "input"],
  [["a", ""], "input[1]"],
  [[[]], "input[0]"],
  [["a", 1], "input[1]"],
  [[-1], "input[0]"],
  [[1.5], "input[0]"],
  [["a", "b", "c", "d"], "input"],
  [{}, "input"],
])("input %j is refused, and %s named", (input, param) => {
  expect(() => read({ input })).toThrow(expect.objectContaining({ param }));
});

test.each([
  [{ pooling_type: "CLS" }, "pooling_type"],
  [{ encoding_format: "bytes" }, "encoding_format"],
  [{ dimensions: 0 }, "dimensions"],
  [{ truncate_prompt_tokens: 5 }, "truncate_prompt_tokens"],
  [{ embed_dtype: "float16" }, "embed_dtype"],
  [{ temperature: 1 }, "temperature"],
])("%j is refused by its name", (fields, param) => {
  expect(() => read(fields)).toThrow(expect.objectContaining({ param }));
});

test("pooling is named as vLLM names it, and normalizing may be turned off by either of its names", () => {
  expect(read({ pooling_type: "MEAN" }).pooling).toBe("mean");
  expect(read({}).normalizes).toBeUndefined();
  expect(read({ normalize: false }).normalizes).toBe(false);
  expect(read({ use_activation: false }).normalizes).toBe(false);
});

const vectors = fc.float32Array({ minLength: 1, maxLength: 64, noNaN: true, min: -100, max: 100 });

test("a vector has length 1, points where it did, and is the same in both encodings", () => {
  fc.assert(
    fc.property(vectors, fc.integer({ min: 1, max: 64 }), (vector, wanted) => {
      const dimensions = Math.min(wanted, vector.length);
      const kept = vector.slice(0, dimensions);
      const length = Math.hypot(...kept);
      fc.pre(length > 1e-3);
      const result = finish(vector, { dimensions, normalizes: true });
      expect(Math.hypot(...result)).toBeCloseTo(1, 5);
      for (const [i, value] of result.entries()) expect(value).toBeCloseTo(kept[i]! / length, 5);
      const bytes = Buffer.from(write(result, "base64") as string, "base64");
      const decoded = write(result, "float") as number[];
      expect(decoded.map((_, i) => bytes.readFloatLE(4 * i))).toEqual(decoded);
    }),
  );
});

test("nothing becomes of a vector of zeros", () => {
  const zeros = new Float32Array(3);
  expect(finish(zeros, { dimensions: undefined, normalizes: true })).toEqual(zeros);
});

test("fewer dimensions are given where the model was trained for it, more never", () => {
  const check = (dimensions: number | undefined, shortened: boolean) => () =>
    checkDimensions(dimensions, { width: 8, shortened });
  expect(check(undefined, false)).not.toThrow();
  expect(check(8, false)).not.toThrow();
  expect(check(4, true)).not.toThrow();
  expect(check(4, false)).toThrow(expect.objectContaining({ code: "unsupported_parameter" }));
  expect(check(9, true)).toThrow(expect.objectContaining({ code: "number_out_of_range" }));
});
