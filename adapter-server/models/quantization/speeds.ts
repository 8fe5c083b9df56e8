/** How long this machine takes for a matrix in each format, measured in a moment: what a choice of format rests on. */
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import ort from "onnxruntime-node";
import { sessionOptions } from "../../engine/session-options.ts";
import { OnnxGraph } from "../onnx-graph.ts";
import type { MatrixSource, WeightFormat } from "../weight-format.ts";
import { type MatrixFormat, weightFormatOf } from "./recipe.ts";

/** Rows of a call: one sequence, eight, many or a short prompt's chunk, a long chunk. */
export const measuredRows = [1, 8, 64, 256] as const;

export type Speed = {
  in: number;
  out: number;
  format: MatrixFormat;
  /** Milliseconds of one product for each of `measuredRows`. */
  ms: number[];
};

/**
 * Times each shape in each format. All take turns, round after round, and the least time of each counts: what else the
 * machine does can only add to it.
 * @param folder for the graphs that are timed; made and removed
 */
export async function measureSpeeds(
  shapes: readonly Shape[],
  {
    formats,
    folder,
    threads,
  }: { formats: readonly MatrixFormat[]; folder: string; threads: number },
): Promise<Speed[]> {
  const timed: Timed[] = [];
  try {
    for (const shape of shapes) {
      for (const format of formats) timed.push(await openTimed(shape, format, { folder, threads }));
    }
    for (let round = 0; round < rounds; round++) {
      for (const [index, rows] of measuredRows.entries()) {
        for (const one of timed) one.ms[index] = Math.min(one.ms[index]!, await timeOf(one, rows));
      }
    }
  } finally {
    for (const { session } of timed) await session.release();
    await rm(folder, { recursive: true, force: true });
  }
  return timed.map(({ shape, format, ms }) => ({ ...shape, format, ms }));
}

type Shape = { in: number; out: number };
type Timed = {
  shape: Shape;
  format: MatrixFormat;
  session: ort.InferenceSession;
  /** Products of a run, each of some of the shape's outputs, as a number of whole ones. */
  products: number;
  ms: number[];
};

async function openTimed(
  shape: Shape,
  format: MatrixFormat,
  { folder, threads }: { folder: string; threads: number },
): Promise<Timed> {
  // Of a large matrix some outputs are timed; its time is in proportion to them.
  const out = Math.max(1, Math.min(shape.out, Math.floor(valuesMax / shape.in)));
  const copies = Math.max(1, Math.min(copiesMax, Math.floor(valuesMax / (shape.in * out))));
  const own = join(folder, `${shape.in}x${shape.out}-${format}`);
  await mkdir(own, { recursive: true });
  // No real weights, so any divisors do.
  const weightFormat = weightFormatOf(format, new Float32Array(shape.in).fill(1));
  const path = await writeProducts(own, weightFormat, { in: shape.in, out, copies });
  const session = await ort.InferenceSession.create(path, await sessionOptions(threads));
  const ms = measuredRows.map(() => Number.POSITIVE_INFINITY);
  return { shape, format, session, products: (copies * out) / shape.out, ms };
}

async function timeOf({ shape, session, products }: Timed, rows: number): Promise<number> {
  const values = Float32Array.from({ length: rows * shape.in }, (_, i) => Math.sin(i));
  const x = new ort.Tensor("float32", values, [rows, shape.in]);
  const zeros = new ort.Tensor("uint8", new Uint8Array(rows).fill(128), [rows, 1]);
  const feeds = Object.fromEntries(
    session.inputNames.map((name) => [name, name === "zeroPoints" ? zeros : x]),
  );
  // The second of two runs finds the caches as a step leaves them.
  await session.run(feeds);
  const before = performance.now();
  await session.run(feeds);
  return (performance.now() - before) / products;
}

/** Several products side by side, each with weights of its own and all that its format does to activations. */
async function writeProducts(
  folder: string,
  format: WeightFormat,
  sizes: { in: number; out: number; copies: number },
): Promise<string> {
  const build = async (graph: OnnxGraph) => {
    if (format.quantizesRows) graph.input("zeroPoints", "uint8", ["rows", 1]);
    graph.ints("axes", [0, 1]);
    const largest: string[] = [];
    for (let copy = 0; copy < sizes.copies; copy++) {
      const x = graph.input(`x${copy}`, "float32", ["rows", sizes.in]);
      const prepared = await format.prepare(graph, x, {
        width: sizes.in,
        zeroPoints: "zeroPoints",
      });
      const product = await format.multiply(graph, prepared, anyMatrix(`m${copy}`, sizes));
      // Results are copied out of the runtime, so a single number stands for each.
      largest.push(graph.op("ReduceMax", [product, "axes"], `largest${copy}`, { keepdims: 0 }));
    }
    graph.op("Max", largest, "y");
    graph.output("y", "float32", []);
  };
  await OnnxGraph.write(folder, [{ name: "products.onnx", build }]);
  return join(folder, "products.onnx");
}

function anyMatrix(name: string, { in: width, out }: { in: number; out: number }): MatrixSource {
  return {
    name,
    in: width,
    out,
    async read(from, to) {
      const values = new Float32Array((to - from) * width);
      for (let i = 0; i < values.length; i++) values[i] = ((i * 2654435761) >>> 20) / 4096 - 0.5;
      return values;
    },
  };
}

/** Weights of one graph that is timed. */
const valuesMax = 1 << 20;
const copiesMax = 8;
const rounds = 6;
