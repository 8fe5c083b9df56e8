/** What an assessment foretells of a matrix, against what the kernel really computes. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import ort from "onnxruntime-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { OnnxGraph } from "../onnx-graph.ts";
import { type Assessment, assessMatrix } from "./assess.ts";
import { openProduct, type Product } from "./product.ts";
import { type MatrixFormat, matrixFormats, weightFormatOf } from "./recipe.ts";

const [tokens, width, out] = [24, 192, 96];
/** A few channels are far larger than all others, as they are in real models. */
const x = Float32Array.from(
  { length: tokens * width },
  (_, i) => Math.sin(i * 7.3) * (i % width < 3 ? 40 : 1),
);
const weight = Float32Array.from({ length: out * width }, (_, i) => Math.cos(i * i * 0.37));
const formats = matrixFormats.filter((format) => format !== "float32");

let folder: string;
let product: Product;
let assessment: Assessment;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "switchyard-assess-"));
  product = await openProduct(1);
  const all = Array.from({ length: tokens }, (_, token) => token);
  assessment = await assessMatrix({ x, weight, in: width, out }, { tokens: all, formats, product });
});
afterAll(async () => {
  await product.close();
  await rm(folder, { recursive: true, force: true });
});

test.each(formats)("%s errs as it was foretold", async (format) => {
  const exact = await product.multiply(x, weight, width);
  const computed = await compute(format);
  const errors = Array.from({ length: tokens }, (_, token) => {
    const range = [token * out, (token + 1) * out] as const;
    const wanted = exact.subarray(...range);
    const difference = computed.subarray(...range).map((value, i) => value - wanted[i]!);
    return squares(difference) / squares(wanted);
  });
  const error = errors.reduce((sum, value) => sum + value, 0) / tokens;
  const ratio = Math.sqrt(error / assessment.errors[format]!);
  expect(ratio).toBeGreaterThan(0.8);
  expect(ratio).toBeLessThan(1.25);
});

test("smoothing takes away most of what a few large channels do to rows", () => {
  const { rows, smooth } = assessment.errors;
  expect(Math.sqrt(smooth! / rows!)).toBeLessThan(0.4);
});

test("activations of 16 bits take away what rows lose by theirs, and leave the weights' part", () => {
  const { rows, rows16 } = assessment.errors;
  expect(Math.sqrt(rows16! / rows!)).toBeLessThan(0.4);
});

/** By the kernel that serves it. */
async function compute(format: MatrixFormat): Promise<Float32Array> {
  const weightFormat = weightFormatOf(format, assessment.divisors);
  const build = async (graph: OnnxGraph) => {
    graph.input("x", "float32", ["T", width]);
    if (weightFormat.quantizesRows) graph.input("zeroPoints", "uint8", ["T", 1]);
    const prepared = await weightFormat.prepare(graph, "x", { width, zeroPoints: "zeroPoints" });
    const read = async (from: number, to: number) => weight.slice(from * width, to * width);
    await weightFormat.multiply(graph, prepared, { name: "y", in: width, out, read });
    graph.output("y", "float32", ["T", out]);
  };
  await OnnxGraph.write(folder, [{ name: "product.onnx", build }]);
  const session = await ort.InferenceSession.create(join(folder, "product.onnx"));
  const feeds: Record<string, ort.Tensor> = { x: new ort.Tensor("float32", x, [tokens, width]) };
  if (weightFormat.quantizesRows) {
    feeds.zeroPoints = new ort.Tensor("uint8", new Uint8Array(tokens).fill(128), [tokens, 1]);
  }
  const { y } = await session.run(feeds);
  const values = Float32Array.from(y?.data as Float32Array);
  await session.release();
  return values;
}

function squares(values: Float32Array): number {
  return values.reduce((sum, value) => sum + value * value, 0);
}
