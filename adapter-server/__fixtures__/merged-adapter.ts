/** A random adapter over all modules of a checkpoint, and the checkpoint that it is merged into. */
import { cp, mkdir, mkdtemp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseSafetensors, readTensor } from "../../sdk/protocol/adapter/safetensors.ts";
import type { BaseShape } from "../../sdk/protocol/catalog.ts";
import { uniform } from "../engine/philox.ts";
import { float32Tensor, safetensorsBytes, type TestTensor } from "./safetensors.ts";

const rank = 5;
const alpha = 10;

/** @returns the folders of the two */
export async function randomAdapter(
  base: string,
  shape: BaseShape,
  into: string,
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
      addProduct(values, { a, b, inputs });
    }
    tensors[name] = float32Tensor([...tensor.shape], [...values]);
  }
  await writeFile(join(merged, "model.safetensors"), safetensorsBytes(tensors));
  await writeFile(join(adapter, "adapter_model.safetensors"), safetensorsBytes(pairs));
  const config = {
    peft_type: "LORA",
    r: rank,
    lora_alpha: alpha,
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

function random(length: number, size: number, stream: number): number[] {
  return Array.from({ length }, (_, index) =>
    Math.fround(size * (2 * uniform(7, stream, index) - 1)),
  );
}
