/** Adapters on disk as PEFT saves them: rank 16, all linear modules, bf16, random weights. */
import { link, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { digestOfFiles, readAdapterFolder } from "../../../adapter-server/lora/adapter-source.ts";
import type { BaseShape } from "../../../sdk/protocol/catalog.ts";
import { joinSafetensors } from "../../support/adapter.ts";
import { adapterRank } from "../engine/models/random-adapter.ts";
import { RandomNumbers } from "../engine/models/random-numbers.ts";
import { adapterFileBytesMax } from "./setting.ts";

export type AdapterOnDisk = { name: string; digest: string };

/**
 * Writes so many into the folder, each in one of its own. They share a few files of weights and differ in their
 * configurations, which makes them adapters of their own and keeps a hundred of them below a gigabyte.
 */
export async function writeAdapterFolders(
  root: string,
  shape: BaseShape,
  count: number,
): Promise<AdapterOnDisk[]> {
  const adapters: AdapterOnDisk[] = [];
  for (let index = 0; index < count; index++) {
    const name = `adapter-${index}`;
    const folder = join(root, name);
    await mkdir(folder, { recursive: true });
    const weights = join(folder, weightsFile);
    const original = join(root, `adapter-${index % distinctWeights}`, weightsFile);
    if (index < distinctWeights) await writeFile(weights, randomWeights(shape, index + 1));
    else await link(original, weights);
    await writeFile(join(folder, "adapter_config.json"), JSON.stringify(configOf(shape, index)));
    const digest = digestOfFiles(await readAdapterFolder(folder, adapterFileBytesMax));
    adapters.push({ name, digest });
  }
  return adapters;
}

function configOf(shape: BaseShape, index: number) {
  return {
    peft_type: "LORA",
    task_type: "CAUSAL_LM",
    base_model_name_or_path: shape.trainedAs[0] ?? null,
    revision: `adapter ${index}`,
    r: adapterRank,
    lora_alpha: 2 * adapterRank,
    target_modules: Object.keys(shape.modules),
  };
}

function randomWeights(shape: BaseShape, seed: number): Uint8Array {
  const random = new RandomNumbers(seed);
  const header: Record<string, unknown> = {};
  const parts: Uint8Array[] = [];
  let offset = 0;
  const add = (name: string, size: readonly [number, number]) => {
    const bytes = toBf16(random.floats(size[0] * size[1], 0.01));
    header[name] = { dtype: "BF16", shape: size, data_offsets: [offset, offset + bytes.length] };
    offset += bytes.length;
    parts.push(bytes);
  };
  for (let layer = 0; layer < shape.layers; layer++) {
    for (const [module, size] of Object.entries(shape.modules)) {
      const block = attention.has(module) ? "self_attn" : "mlp";
      const path = `base_model.model.model.layers.${layer}.${block}.${module}`;
      add(`${path}.lora_A.weight`, [adapterRank, size.in]);
      add(`${path}.lora_B.weight`, [size.out, adapterRank]);
    }
  }
  return joinSafetensors(JSON.stringify(header), Buffer.concat(parts));
}

/** The upper half of each number. */
function toBf16(values: Float32Array): Uint8Array {
  const bits = new Uint32Array(values.buffer);
  return new Uint8Array(Uint16Array.from(bits, (value) => value >>> 16).buffer);
}

const weightsFile = "adapter_model.safetensors";
const attention = new Set(["q_proj", "k_proj", "v_proj", "o_proj"]);
const distinctWeights = 4;
