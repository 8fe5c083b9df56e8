/**
 * What this machine can do at most, measured in the same run: bytes read from memory a second, and products
 * of numbers a second. A step of a model cannot be quicker than either allows.
 */
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import ort from "onnxruntime-node";
import { OnnxGraph } from "../../../adapter-server/models/onnx-graph.ts";
import { startWorker } from "../../../adapter-server/start-worker.ts";

export type MachineLimits = {
  /** Bytes read a second, all threads together, from buffers far larger than the caches. */
  bytesPerSecond: number;
  /** Products of int8 numbers, summed, a second: the best that ONNX Runtime's kernel does on a large matrix. */
  int8PerSecond: number;
  /** The same in float32. */
  float32PerSecond: number;
};

/** @param folder a temporary one, for the probes' graphs */
export async function measureMachine(folder: string, threads: number): Promise<MachineLimits> {
  return {
    bytesPerSecond: await readBandwidth(threads),
    int8PerSecond: await productsPerSecond(join(folder, "int8"), "int8", threads),
    float32PerSecond: await productsPerSecond(join(folder, "float32"), "float32", threads),
  };
}

export function describeLimits(limits: MachineLimits): string {
  const giga = (value: number) => (value / 1e9).toFixed(value < 1e11 ? 1 : 0);
  return [
    `limits of this machine, measured now: memory is read at ${giga(limits.bytesPerSecond)} GB/s (the best of ${repeats}; every thread searches ` +
      `${bufferBytes >> 20} MiB for a byte that is not there);`,
    `${giga(limits.int8PerSecond)} G int8 and ${giga(limits.float32PerSecond)} G float32 multiply-adds/s (the best of ${repeats} products ` +
      `[${rows}, ${depth}] × [${depth}, ${columns}] in ONNX Runtime).`,
    "A figure's limit is the slower of: the bytes that it must read (weights once a step, keys and values of every sequence,",
    "the adapters in use) at that rate, and its multiply-adds at that rate.",
  ].join("\n");
}

/** Bytes read a second by so many threads together. */
export async function readBandwidth(threads: number): Promise<number> {
  const workers = Array.from({ length: threads }, () =>
    startWorker(new URL("./programs/read-memory-worker.ts", import.meta.url), {
      workerData: { bytes: bufferBytes },
    }),
  );
  await Promise.all(workers.map((worker) => once(worker, "message")));
  let best = 0;
  for (let repeat = 0; repeat < repeats; repeat++) {
    const answers = workers.map((worker) => once(worker, "message"));
    for (const worker of workers) worker.postMessage("go");
    const spans = (await Promise.all(answers)).flat() as { from: number; to: number }[];
    const from = Math.min(...spans.map((span) => span.from));
    const to = Math.max(...spans.map((span) => span.to));
    best = Math.max(best, (threads * bufferBytes * 1000) / (to - from));
  }
  await Promise.all(workers.map((worker) => worker.terminate()));
  return best;
}

async function productsPerSecond(
  folder: string,
  type: "int8" | "float32",
  threads: number,
): Promise<number> {
  await mkdir(folder, { recursive: true });
  const name = "product.onnx";
  await OnnxGraph.write(folder, [{ name, build: (graph) => buildProduct(graph, type) }]);
  const session = await ort.InferenceSession.create(join(folder, name), {
    intraOpNumThreads: threads,
    logSeverityLevel: 3,
  });
  const x =
    type === "int8"
      ? new ort.Tensor("uint8", new Uint8Array(rows * depth).fill(129), [rows, depth])
      : new ort.Tensor("float32", new Float32Array(rows * depth).fill(0.5), [rows, depth]);
  let best = Number.POSITIVE_INFINITY;
  for (let repeat = 0; repeat < repeats; repeat++) {
    const startedAt = performance.now();
    await session.run({ x });
    best = Math.min(best, performance.now() - startedAt);
  }
  await session.release();
  return (rows * depth * columns * 1000) / best;
}

/** One product and the largest of its numbers, so that copying the result costs nothing. */
async function buildProduct(graph: OnnxGraph, type: "int8" | "float32"): Promise<void> {
  graph.input("x", type === "int8" ? "uint8" : type, [rows, depth]);
  if (type === "int8") {
    const weight = () => new Int8Array(depth * columns).fill(3);
    await graph.weight("weight", "int8", [depth, columns], weight);
    graph.floats("one", [1], []);
    graph.bytes("zeroPoint", [128], []);
    graph.contrib("MatMulIntegerToFloat", ["x", "weight", "one", "one", "zeroPoint"], "product");
  } else {
    const weight = () => new Float32Array(depth * columns).fill(0.5);
    await graph.weight("weight", "float32", [depth, columns], weight);
    graph.op("MatMul", ["x", "weight"], "product");
  }
  graph.ints("axes", [0, 1]);
  graph.op("ReduceMax", ["product", "axes"], "largest", { keepdims: 0 });
  graph.output("largest", "float32", []);
}

const bufferBytes = 256 << 20;
const repeats = 24;
/** As a prompt's chunk meets the largest matrix of a model of a billion parameters. */
const [rows, depth, columns] = [512, 2048, 5632];
