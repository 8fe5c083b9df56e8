/** Makes the files of an import: how weights are to be stored, the graphs over them, and what storing them so costs. */
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { createRunner } from "../engine/model-runner.ts";
import { checkpointWeights } from "./checkpoint-weights.ts";
import { buildDecoder } from "./decoder-graph.ts";
import { graphFileName, graphVariants, modelFileName } from "./graph-files.ts";
import type { ModelFormat } from "./import-model.ts";
import type { ModelSource, WeightFiles } from "./model-source.ts";
import type { ModelSpec } from "./model-spec.ts";
import { OnnxGraph } from "./onnx-graph.ts";
import { prepackWeights } from "./prepack.ts";
import { blocksNeeded, measureCost } from "./quantization/cost.ts";
import { type Plan, planFormats } from "./quantization/plan.ts";
import { openProduct } from "./quantization/product.ts";
import {
  everyMatrix,
  type Recipe,
  type Smoothing,
  toDecoderFormats,
} from "./quantization/recipe.ts";
import { referenceLogits } from "./quantization/reference.ts";
import { type QuantizationCost, writeReport } from "./quantization/report.ts";

type BuildOptions = {
  checkpoint: WeightFiles;
  format: ModelFormat;
  /** Tokens of a block of the key/value cache. */
  blockSize: number;
  /** Memory that the weights may take; `auto` keeps to it. */
  memoryBytesMax: number;
  /** Called with the share that is done, 0 to 1. */
  onProgress: (done: number) => void;
};

/** @param folder empty, and nobody's but ours until this returns */
export async function buildImport(
  folder: string,
  source: ModelSource,
  options: BuildOptions,
): Promise<void> {
  const { spec } = source;
  const { format } = options;
  if (format === "f32") {
    const recipe = everyMatrix(spec.dims.layers, "float32");
    await writeGraphs(folder, spec, { ...options, recipe, smoothing: new Map() });
    return;
  }
  const plan = await planFormats(source, {
    ...options,
    format,
    folder: join(folder, "timed"),
    onProgress: (done) => options.onProgress(done * planShare),
  });
  const onProgress = (done: number) => options.onProgress(planShare + done * writeShare);
  await writeGraphs(folder, spec, { ...options, ...plan, onProgress });
  const cost = await tellCost(folder, spec, { ...options, plan });
  await writeReport(folder, { ...plan.report, cost });
  options.onProgress(1);
}

async function writeGraphs(
  folder: string,
  spec: ModelSpec,
  {
    checkpoint,
    recipe,
    smoothing,
    blockSize,
    onProgress,
  }: BuildOptions & { recipe: Recipe; smoothing: Smoothing },
): Promise<void> {
  const weights = checkpointWeights(checkpoint, spec, onProgress);
  const formats = toDecoderFormats(recipe, smoothing);
  await OnnxGraph.write(
    folder,
    graphVariants.map((variant) => ({
      name: graphFileName(variant),
      build: (graph) => buildDecoder(graph, spec, { weights, formats, blockSize, ...variant }),
    })),
  );
  await prepackWeights(folder);
}

/** Takes the memory that serving the import takes, and no more. */
async function tellCost(
  folder: string,
  spec: ModelSpec,
  { checkpoint, format, blockSize, plan }: BuildOptions & { plan: Plan },
): Promise<QuantizationCost> {
  const threads = availableParallelism();
  const product = await openProduct(threads);
  const expected = await referenceLogits(plan.reference, { checkpoint, spec, product });
  await product.close();
  const graphPath = join(folder, modelFileName);
  const runner = await createRunner({
    model: { graphPath, format, blockSize, dims: spec.dims },
    keyValues: "f32",
    blocks: blocksNeeded(plan.reference, blockSize),
    slots: 1,
    rankMax: 1,
    threads,
  });
  try {
    return await measureCost(runner, plan.reference, expected);
  } finally {
    await runner.close();
  }
}

const planShare = 0.45;
const writeShare = 0.45;
