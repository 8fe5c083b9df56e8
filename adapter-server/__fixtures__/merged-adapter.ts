/** A random adapter over all modules of a checkpoint, and the checkpoint that it is merged into. */
import { cp, mkdir, mkdtemp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseSafetensors, readTensor } from "../../sdk/protocol/adapter/safetensors.ts";
import type { BaseShape } from "../../sdk/protocol/catalog.ts";
import { uniform } from "../engine/philox.ts";
import { float32Tensor, safetensorsBytes, type TestTensor } from "./safetensors.ts";

const rank = 5;
const alpha = 10;

/**
 * @param options.dora with magnitudes, each a half more or less than its row's length
 * @returns the folders of the two
 */
export async function randomAdapter(
  base: string,
  shape: BaseShape,
  { into, dora = false }: { into: string; dora?: boolean },
): Promise<{ adapter: string; merged: string }> {
  const merged = await mkdtemp(join(into, "merged-"));
  const adapter = join(merged, "adapter");
  await cp(base, merged, { recursive: true });
  await mkdir(adapter);
  const stored = parseSafetensors(await readFile(join(base, "model.safetensors")));
  const tensors: Record<string, TestTensor> = {};
  const pairs: Record<string, TestTensor> = {};
  let stream = 0;
  for (const [name, tensor] of stored.tensors) {
    const values = readTensor(stored.bytes, tensor);
    const [module] = Object.entries(shape.modules).filter(([last]) =>
      name.endsWith(`.${last}.weight`),
    );
    if (module) {
      const { in: inputs, out } = module[1];
      const a = random(rank * inputs, 0.2, stream++);
      const b = random(out * rank, 0.2, stream++);
      const path = `base_model.model.${name.slice(0, -".weight".length)}`;
      pairs[`${path}.lora_A.weight`] = float32Tensor([rank, inputs], a);
      pairs[`${path}.lora_B.weight`] = float32Tensor([out, rank], b);
      const lengths = lengthsOf(values, inputs);
      addProduct(values, { a, b, inputs });
      if (dora) {
        const shares = random(out, 0.5, stream++);
        const magnitudes = lengths.map((length, row) => Math.fround(length * (1 + shares[row]!)));
        pairs[`${path}.lora_magnitude_vector`] = float32Tensor([out], magnitudes);
        bringTo(magnitudes, values, inputs);
      }
    }
    tensors[name] = float32Tensor([...tensor.shape], [...values]);
  }
  await writeFile(join(merged, "model.safetensors"), safetensorsBytes(tensors));
  await writeFile(join(adapter, "adapter_model.safetensors"), safetensorsBytes(pairs));
  const config = {
    peft_type: "LORA",
    r: rank,
    lora_alpha: alpha,
    use_dora: dora,
    target_modules: Object.keys(shape.modules),
  };
  await writeFile(join(adapter, "adapter_config.json"), JSON.stringify(config));
  return { adapter, merged };
}

/** W += alpha / rank · B·A, in place. */
function addProduct(
  weight: Float32Array,
  { a, b, inputs }: { a: number[]; b: number[]; inputs: number },
): void {
  for (let row = 0; row < weight.length / inputs; row++) {
    for (let column = 0; column < inputs; column++) {
      let sum = 0;
      for (let k = 0; k < rank; k++) sum += b[row * rank + k]! * a[k * inputs + column]!;
      weight[row * inputs + column]! += (alpha / rank) * sum;
    }
  }
}

function lengthsOf(weight: Float32Array, inputs: number): number[] {
  return Array.from({ length: weight.length / inputs }, (_, row) =>
    Math.hypot(...weight.subarray(row * inputs, (row + 1) * inputs)),
  );
}

/** Rows of these lengths and of their own directions, in place. */
function bringTo(lengths: number[], weight: Float32Array, inputs: number): void {
  const before = lengthsOf(weight, inputs);
  for (let i = 0; i < weight.length; i++) {
    const row = Math.floor(i / inputs);
    weight[i]! *= lengths[row]! / before[row]!;
  }
}

function random(length: number, size: number, stream: number): number[] {
  return Array.from({ length }, (_, index) =>
    Math.fround(size * (2 * uniform(7, stream, index) - 1)),
  );
}
