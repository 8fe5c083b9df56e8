/** A model in a GGUF file, or several: weights, settings, tokenizer and chat template. */
import { basename } from "node:path";
import { HubError } from "../../../sdk/protocol/errors.ts";
import { familyOf } from "../families/known.ts";
import { type FileDigests, modelDigest } from "../model-digest.ts";
import type { ModelSource } from "../model-source.ts";
import type { ModelSpec } from "../model-spec.ts";
import { GgufCheckpoint } from "./checkpoint.ts";
import { toConfig } from "./config.ts";
import { toTokenizer } from "./tokenizer.ts";

/** @throws HubError `unsupported_model` that names what is missing or not computed */
export async function openGguf(path: string, known?: FileDigests): Promise<ModelSource> {
  const checkpoint = await GgufCheckpoint.open(path);
  try {
    return {
      name: basename(path).replace(/(-\d{5}-of-\d{5})?\.gguf$/i, ""),
      spec: await readSpec(checkpoint),
      digest: await modelDigest(digestNames(checkpoint.paths), known),
      ...toTokenizer(checkpoint.metadata),
      generation: {},
      openWeights: () => GgufCheckpoint.open(path),
    };
  } finally {
    await checkpoint.close();
  }
}

/** Whatever the files are called, the same content has the same digest. */
function digestNames(paths: readonly string[]): Map<string, string> {
  return new Map(
    paths.map((path, index) => [index === 0 ? "model.gguf" : `model-${index}.gguf`, path]),
  );
}

async function readSpec(checkpoint: GgufCheckpoint): Promise<ModelSpec> {
  const config = toConfig(checkpoint.metadata, {
    vocabSize: checkpoint.shape("model.embed_tokens.weight")[0] ?? 0,
    tiedEmbedding: !checkpoint.has("lm_head.weight"),
  });
  const family = familyOf(config);
  const read = family.readSpec(config);
  // llama.cpp's converter adds what the family's norms leave out.
  const spec = { ...read, normOffset: 0 };
  const divisors = await checkpoint.ropeDivisors();
  return divisors ? withRopeDivisors(spec, divisors) : spec;
}

/** llama.cpp's converter writes the scaling of Llama 3 as one divisor for each frequency. */
function withRopeDivisors(spec: ModelSpec, divisors: Float32Array): ModelSpec {
  const pairs = spec.dims.headDim / 2;
  if (divisors.length !== pairs || divisors.some((divisor) => !(divisor > 0))) {
    throw new HubError(
      "unsupported_model",
      `Tensor 'rope_freqs.weight' should have ${pairs} positive divisors.`,
    );
  }
  const attentions = spec.attentions.map((attention) => ({
    ...attention,
    rope: { ...attention.rope, scaling: { type: "divisors" as const, divisors } },
  }));
  return { ...spec, attentions };
}
