/** Makes the files of an import: how weights are to be stored, the graphs over them, and what storing them so costs. */
import { rm } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { createRunner } from "../engine/model-runner.ts";
import type { ModelRunner } from "../engine/types.ts";
import { checkpointWeights } from "./checkpoint-weights.ts";
import { buildDecoder } from "./decoder-graph.ts";
import {
  type GraphWeights,
  graphFileName,
  graphVariants,
  modelFileName,
  type SingleFormat,
} from "./graph-files.ts";
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
  fourBits,
  type Recipe,
  type Smoothing,
  toDecoderFormats,
} from "./quantization/recipe.ts";
import { referenceLogits } from "./quantization/reference.ts";
import { type QuantizationReport, writeReport } from "./quantization/report.ts";
import {
  blocksTimed,
  chooseSingle,
  lackOfRoom,
  type StepTimes,
  timeSteps,
} from "./quantization/single-stream.ts";

type BuildOptions = {
  checkpoint: WeightFiles;
  format: ModelFormat;
  /** Weights beside the others, for steps in which one sequence decodes, where they are quicker and there is room. */
  singleStream?: SingleFormat | undefined;
  /** Tokens of a block of the key/value cache. */
  blockSize: number;
  /** Memory that the weights may take; `auto` keeps to it. */
  memoryBytesMax: number;
  /** Called with the share that is done, 0 to 1. */
  onProgress: (done: number) => void;
  /** Tells how long a step takes with and without them. */
  timeSteps?: ((runner: ModelRunner) => Promise<StepTimes>) | undefined;
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
    const recipes = { main: everyMatrix(spec.dims.layers, "float32") };
    await writeGraphs(folder, spec, { ...options, recipes, smoothing: new Map() });
    return;
  }
  const plan = await planFormats(source, {
    ...options,
    format,
    folder: join(folder, "timed"),
    onProgress: (done) => options.onProgress(done * planShare),
  });
  const { singleStream, memoryBytesMax } = options;
  const noRoom = singleStream && lackOfRoom(spec, memoryBytesMax);
  const tried = noRoom ? undefined : singleStream;
  const recipes: Recipes = {
    main: plan.recipe,
    ...(tried && { single: fourBits(spec.dims.layers, tried) }),
  };
  const onProgress = (done: number) => options.onProgress(planShare + done * writeShare);
  await writeGraphs(folder, spec, { ...options, ...plan, recipes, onProgress });
  const measured = await measure(folder, spec, { ...options, plan, singleStream: tried });
  if (tried && !measured.singleStream?.isChosen) {
    // Both kinds of weights lie in one file, which is written anew.
    await removeGraphs(folder, "single");
    const main = { main: plan.recipe };
    await writeGraphs(folder, spec, { ...options, ...plan, recipes: main, onProgress: () => {} });
  }
  const told = singleStream && noRoom && { singleStream: { format: singleStream, ...noRoom } };
  await writeReport(folder, { ...plan.report, ...measured, ...told });
  options.onProgress(1);
}

async function writeGraphs(
  folder: string,
  spec: ModelSpec,
  {
    checkpoint,
    recipes,
    smoothing,
    blockSize,
    onProgress,
  }: BuildOptions & { recipes: Recipes; smoothing: Smoothing },
): Promise<void> {
  const weights = checkpointWeights(checkpoint, spec, onProgress);
  const kinds: GraphWeights[] = recipes.single ? ["main", "single"] : ["main"];
  await OnnxGraph.write(
    folder,
    kinds.flatMap(graphVariants).map((variant) => {
      const formats = toDecoderFormats(recipes[variant.weights] ?? recipes.main, smoothing);
      return {
        name: graphFileName(variant),
        build: (graph) => {
          const { adapters, keyValues } = variant;
          const options = { weights, formats, blockSize, adapters, keyValues };
          return buildDecoder(graph, spec, options);
        },
      };
    }),
  );
  await prepackWeights(folder, kinds);
}

type Recipes = { main: Recipe; single?: Recipe };

async function removeGraphs(folder: string, weights: GraphWeights): Promise<void> {
  for (const variant of graphVariants(weights)) await rm(join(folder, graphFileName(variant)));
}

/** Runs what was written: takes the memory that serving it takes, and no more. */
async function measure(
  folder: string,
  spec: ModelSpec,
  {
    checkpoint,
    format,
    blockSize,
    plan,
    singleStream,
    timeSteps: time = timeSteps,
  }: BuildOptions & { plan: Plan },
): Promise<Pick<QuantizationReport, "cost" | "singleStream">> {
  const threads = availableParallelism();
  const product = await openProduct(threads);
  const expected = await referenceLogits(plan.reference, { checkpoint, spec, product });
  await product.close();
  const graphPath = join(folder, modelFileName);
  const runner = await createRunner({
    model: { graphPath, format, singleStream, blockSize, dims: spec.dims },
    keyValues: "f32",
    blocks: Math.max(blocksNeeded(plan.reference, blockSize), blocksTimed(blockSize)),
    slots: 1,
    rankMax: 1,
    threads,
  });
  try {
    const costOf = (weights: GraphWeights) =>
      measureCost(runner, plan.reference, { expected, weights });
    const cost = await costOf("main");
    if (!singleStream) return { cost };
    const choice = chooseSingle(await time(runner));
    return {
      cost,
      singleStream: { format: singleStream, ...choice, cost: await costOf("single") },
    };
  } finally {
    await runner.close();
  }
}

const planShare = 0.45;
const writeShare = 0.45;
