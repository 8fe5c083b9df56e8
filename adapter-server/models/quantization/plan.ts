/** Decides how an import stores its weights: as it was asked, or as measuring on this machine says. */
import { availableParallelism } from "node:os";
import { siteNames } from "../../lora/sites.ts";
import type { ModelFormat } from "../import-model.ts";
import type { ModelSource, WeightFiles } from "../model-source.ts";
import type { ModelSpec } from "../model-spec.ts";
import { type Assessment, assessMatrix, spread } from "./assess.ts";
import { calibrationTokens } from "./calibration-tokens.ts";
import { chooseRecipe, errorMax, formatIn, type Judged, judgeRecipe } from "./choose.ts";
import { openProduct, type Product } from "./product.ts";
import {
  everyMatrix,
  fourBits,
  type MatrixFormat,
  matrixName,
  type Recipe,
  recipeDigest,
  type Smoothing,
} from "./recipe.ts";
import { computeReference, type Reference } from "./reference.ts";
import type { QuantizationReport } from "./report.ts";
import { measuredRows, measureSpeeds } from "./speeds.ts";

export type Plan = {
  recipe: Recipe;
  smoothing: Smoothing;
  reference: Reference;
  report: Omit<QuantizationReport, "cost">;
};

export type PlanOptions = {
  format: Exclude<ModelFormat, "f32">;
  checkpoint: WeightFiles;
  /** For graphs that are timed; made and removed. */
  folder: string;
  /** Memory that the weights may take; `auto` keeps to it. */
  memoryBytesMax: number;
  onProgress: (done: number) => void;
};

/** Computes the calibration text once in float32, a layer at a time, and looks at every matrix on the way. */
export async function planFormats(
  source: Pick<ModelSource, "spec" | "tokenizer" | "chatTemplate">,
  options: PlanOptions,
): Promise<Plan> {
  const { spec } = source;
  const threads = availableParallelism();
  const given = givenRecipe(spec, options);
  const formats = given ? [...formatsOf(given.recipe)] : candidatesOf(options.format);
  const product = await openProduct(threads);
  try {
    const { reference, assessments } = await assessModel(source, {
      ...options,
      formats,
      product,
      threads,
    });
    const { recipe, reason, ...measured } = given
      ? { ...given, candidates: [], speeds: [] }
      : await chooseByMeasuring(spec, assessments, { ...options, formats, threads });
    const smoothing = new Map(
      [...assessments]
        .filter(([name]) => formatIn(recipe, name) === "smooth")
        .map(([name, { divisors }]) => [name, divisors]),
    );
    const matrices = [...assessments].map(([name, { errors }]) => {
      const format = formatIn(recipe, name);
      return { name, format, error: Math.sqrt(errors[format] ?? 0) };
    });
    const digest = recipeDigest(recipe);
    const rows = [...measuredRows];
    const report = {
      version: 1 as const,
      recipe,
      recipeDigest: digest,
      reason,
      matrices,
      measuredRows: rows,
      ...measured,
    };
    return { recipe, smoothing, reference, report };
  } finally {
    await product.close();
  }
}

/** The recipe where there is nothing to measure for it. */
function givenRecipe(
  spec: ModelSpec,
  { format, memoryBytesMax }: Pick<PlanOptions, "format" | "memoryBytesMax">,
): { recipe: Recipe; reason: string } | undefined {
  const { layers } = spec.dims;
  const asked = (recipe: Recipe) => ({ recipe, reason: "as it was asked for" });
  switch (format) {
    case "int8":
      return asked(everyMatrix(layers, "smooth"));
    case "int8-a16":
      return asked(everyMatrix(layers, "rows16"));
    case "int8-blocks":
      return asked(everyMatrix(layers, "block8x64"));
    case "int4":
    case "int4-128":
      return asked(fourBits(layers, format));
    case "mix":
      return undefined;
    case "auto": {
      if (!fitsMemory(spec, eightBitBytes, memoryBytesMax)) {
        const reason =
          "4 bits, because 8 do not fit into the memory of the machine that imported it";
        return { recipe: fourBits(layers, "int4"), reason };
      }
      if (parametersOf(spec) > parametersUnmeasured) return undefined;
      const reason = "smoothed int8 rows without measuring, because the model is small";
      return { recipe: everyMatrix(layers, "smooth"), reason };
    }
    default:
      return format satisfies never;
  }
}

async function assessModel(
  source: Pick<ModelSource, "spec" | "tokenizer" | "chatTemplate">,
  {
    checkpoint,
    formats,
    product,
    threads,
    onProgress,
  }: PlanOptions & { formats: readonly MatrixFormat[]; product: Product; threads: number },
): Promise<{ reference: Reference; assessments: Map<string, Assessment> }> {
  const { spec } = source;
  const { layers, hiddenSize, vocabSize } = spec.dims;
  const assessments = new Map<string, Assessment>();
  const sequences = calibrationTokens(source);
  const tokens = assessedTokens(sequences);
  const reference = await computeReference(spec, {
    sequences,
    checkpoint,
    threads,
    onLayer: async (layer, sites) => {
      for (const { site, ...pass } of sites) {
        const assessment = await assessMatrix(pass, { tokens, formats, product });
        assessments.set(matrixName(layer, site), assessment);
      }
      onProgress((layer + 1) / (layers + 1));
    },
  });
  const matrix = spec.tiedEmbedding ? spec.tensors.embedding : spec.tensors.output;
  const outputs = spread(vocabSize, outputsAssessed);
  const weight = new Float32Array(outputs.length * hiddenSize);
  for (const [index, output] of outputs.entries()) {
    weight.set(await checkpoint.read(matrix, output, output + 1), index * hiddenSize);
  }
  const pass = { x: reference.hidden, weight, in: hiddenSize, out: outputs.length };
  const positions = [...reference.positions.keys()];
  const logits = await assessMatrix(pass, { tokens: positions, formats, product });
  assessments.set("logits", { ...logits, out: vocabSize });
  onProgress(1);
  return { reference, assessments };
}

async function chooseByMeasuring(
  spec: ModelSpec,
  assessments: ReadonlyMap<string, Assessment>,
  {
    formats,
    folder,
    threads,
  }: { formats: readonly MatrixFormat[]; folder: string; threads: number },
): Promise<{ recipe: Recipe; reason: string } & Pick<QuantizationReport, "candidates" | "speeds">> {
  const { layers } = spec.dims;
  const speeds = await measureSpeeds(distinctShapes(assessments), {
    formats,
    folder,
    threads,
  });
  const judge = (name: string, recipe: Recipe): Candidate => ({
    name,
    recipe,
    ...judgeRecipe(recipe, assessments, speeds),
  });
  const mix = judge("mix", chooseRecipe(assessments, speeds, { layers, formats }));
  const uniform = [
    judge("int8", everyMatrix(layers, "smooth")),
    judge("int8-a16", everyMatrix(layers, "rows16")),
    judge("int8-blocks", everyMatrix(layers, "block8x64")),
  ];
  // Of two that take the same time the plain one is easier to understand.
  const good = uniform
    .filter(
      ({ error, relativeTime }) =>
        error <= errorMax && relativeTime <= mix.relativeTime * mixGainMin,
    )
    .sort((a, b) => a.relativeTime - b.relativeTime);
  const chosen = good[0] ?? mix;
  const candidates = [chosen, ...[mix, ...uniform].filter((one) => one !== chosen)];
  return {
    recipe: chosen.recipe,
    reason: reasonFor(chosen),
    candidates: candidates.map(({ name, error, relativeTime }) => ({ name, error, relativeTime })),
    speeds: speeds.map((speed) => ({
      ...speed,
      ms: speed.ms.map((ms) => Number(ms.toPrecision(3))),
    })),
  };
}

type Candidate = Judged & { name: string; recipe: Recipe };

function reasonFor({ name, error }: Candidate): string {
  const within = `${100 * errorMax} %`;
  if (error > errorMax) return `${name}, because it errs least; nothing keeps within ${within}`;
  return `${name}, because it takes least time here of what errs by ${within} at most`;
}

/** `auto` weighs what it can tell apart in a moment; 4 bits rarely keep within the error. */
function candidatesOf(format: ModelFormat): MatrixFormat[] {
  const eight: MatrixFormat[] = ["smooth", "rows16", "block8x64", "block8x128"];
  return format === "mix" ? [...eight, "block4x32", "block4x128"] : eight;
}

function formatsOf({ logits, layers }: Recipe): Set<MatrixFormat> {
  return new Set([logits, ...layers.flatMap((layer) => siteNames.map((site) => layer[site]))]);
}

function distinctShapes(assessments: ReadonlyMap<string, Assessment>) {
  const shapes = new Map([...assessments.values()].map((one) => [`${one.in}x${one.out}`, one]));
  return [...shapes.values()].map(({ in: width, out }) => ({ in: width, out }));
}

/** Every few tokens of each sequence, the first included: it is unlike all others, and all others attend to it. */
function assessedTokens(sequences: readonly (readonly number[])[]): number[] {
  const tokens: number[] = [];
  let start = 0;
  for (const { length } of sequences) {
    for (let i = 0; i < length; i += tokenStride) tokens.push(start + i);
    start += length;
  }
  return tokens;
}

/** Whether weights of so many bytes for each parameter leave enough memory to the rest. */
export function fitsMemory(
  spec: ModelSpec,
  bytesPerParameter: number,
  memoryBytesMax: number,
): boolean {
  return parametersOf(spec) * bytesPerParameter <= memoryShare * memoryBytesMax;
}

/** Of the matrices, which is all but a thousandth. */
function parametersOf({ dims, tiedEmbedding }: ModelSpec): number {
  const { layers, hiddenSize, intermediateSize, heads, keyValueHeads, headDim, vocabSize } = dims;
  const attention = (2 * heads + 2 * keyValueHeads) * headDim * hiddenSize;
  const layer = attention + 3 * hiddenSize * intermediateSize;
  return layers * layer + (tiedEmbedding ? 1 : 2) * vocabSize * hiddenSize;
}

const tokenStride = 7;
const outputsAssessed = 256;
/** For a parameter, with scales and an embedding beside the output matrix. */
export const eightBitBytes = 1.2;
/** The rest is for the key/value cache, adapters and the process. */
const memoryShare = 0.8;
/** Below it a choice takes longer than it could save. */
const parametersUnmeasured = 32e6;
/** A mix is taken when it saves as much of the time. */
const mixGainMin = 1.05;
