import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import ort from "onnxruntime-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { embedBlocks, embeddingName, tiedToEmbedding } from "./block-embedding.ts";
import { OnnxGraph } from "./onnx-graph.ts";
import { blocks, type MatrixSource } from "./weight-format.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "switchyard-embedding-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test.each([128, 96])(
  "rows of %i values come out as they went in, to half a level",
  async (width) => {
    const { values, matrix } = newMatrix(50, width);
    const path = await write((graph) => embedBlocks(graph, "tokens", matrix));
    const session = await ort.InferenceSession.create(path);
    const tokens = Int32Array.from([0, 7, 49]);
    const { y } = await session.run({ tokens: new ort.Tensor("int32", tokens, [3]) });
    tokens.forEach((token, row) => {
      for (let column = 0; column < width; column++) {
        const difference = Number(y?.data[row * width + column]) - values[token * width + column]!;
        // The largest value of a block is 128 levels, and may lie half a level past the last of them.
        expect(Math.abs(difference)).toBeLessThan(1 / 128);
      }
    });
    await session.release();
  },
);

test("a tied output matrix is computed from the embedding's bytes, and gives what its own would", async () => {
  const { matrix } = newMatrix(50, 128);
  const logits = async (tied: boolean) => {
    const path = await write(async (graph) => {
      const embedded = await embedBlocks(graph, "tokens", matrix);
      const own = { ...matrix, name: "logits" };
      const source = tied ? tiedToEmbedding(own) : own;
      return blocks(8, 64).multiply(graph, { value: embedded }, source);
    });
    const session = await ort.InferenceSession.create(path);
    const { y } = await session.run({ tokens: new ort.Tensor("int32", [3, 4], [2]) });
    await session.release();
    return y?.data;
  };
  const [own, tied] = [await logits(false), await logits(true)];
  expect(tied).toEqual(own);
});

function newMatrix(out: number, width: number): { values: Float32Array; matrix: MatrixSource } {
  const values = Float32Array.from({ length: out * width }, (_, i) => Math.sin(i * i));
  const read = async (from: number, to: number) => values.slice(from * width, to * width);
  return { values, matrix: { name: embeddingName, in: width, out, read } };
}

/** A graph from `tokens` to `y`. */
async function write(build: (graph: OnnxGraph) => Promise<string>): Promise<string> {
  const whole = async (graph: OnnxGraph) => {
    graph.input("tokens", "int32", ["T"]);
    graph.op("Identity", [await build(graph)], "y");
    graph.output("y", "float32", ["T", "width"]);
  };
  await OnnxGraph.write(folder, [{ name: "model.onnx", build: whole }]);
  return join(folder, "model.onnx");
}
