/** A random adapter of rank 16 on every module: packed for our engine, and as a GGUF file for llama.cpp. */
import type { LoraModule, PackedAdapter } from "../../../../adapter-server/engine/types.ts";
import { packedBytes, toSharedMemory } from "../../../../adapter-server/lora/shared-weights.ts";
import type { BaseShape } from "../../../../sdk/protocol/catalog.ts";
import { type GgufTensor, writeGguf } from "./gguf-writer.ts";
import { toHalfBytes } from "./half.ts";
import { RandomNumbers } from "./random-numbers.ts";

export const adapterRank = 16;

/** Small weights from a fixed seed: the work is that of a trained adapter, the answers are of no interest. */
export function randomAdapter(shape: BaseShape, seed: number): PackedAdapter {
  const random = new RandomNumbers(seed);
  const pairs = () =>
    Object.fromEntries(
      Object.entries(shape.modules).map(([module, size]) => [
        module,
        {
          a: random.floats(adapterRank * size.in, 0.01),
          b: random.floats(size.out * adapterRank, 0.01),
          rank: adapterRank,
        },
      ]),
    );
  const adapter: PackedAdapter = {
    digest: seed.toString(16).padStart(64, "0"),
    rank: adapterRank,
    layers: Array.from({ length: shape.layers }, pairs),
  };
  return toSharedMemory(adapter, new SharedArrayBuffer(packedBytes(adapter)));
}

/**
 * The adapter as llama.cpp's converter writes it, in F16. The order of rows in queries and keys, which differs
 * between the two sides, is left alone: it changes the answers, not the work.
 */
export async function writeAdapterGguf(path: string, adapter: PackedAdapter): Promise<void> {
  const tensors = adapter.layers.flatMap((pairs, layer) =>
    Object.entries(pairs).flatMap(([module, { a, b, rank }]): GgufTensor[] => {
      const name = `blk.${layer}.${tensorNames[module as LoraModule]}.weight`;
      const type = "F16";
      return [
        {
          name: `${name}.lora_a`,
          type,
          shape: [rank, a.length / rank],
          parts: () => [toHalfBytes(a)],
        },
        {
          name: `${name}.lora_b`,
          type,
          shape: [b.length / rank, rank],
          parts: () => [toHalfBytes(transposed(b, rank))],
        },
      ];
    }),
  );
  await writeGguf(
    path,
    {
      "general.type": { type: "string", value: "adapter" },
      "general.architecture": { type: "string", value: "llama" },
      "adapter.type": { type: "string", value: "lora" },
      // Our packed B has the scaling in it, so alpha / rank has to be one.
      "adapter.lora.alpha": { type: "float32", value: adapterRank },
    },
    tensors,
  );
}

/** `[rows, columns]` to `[columns, rows]`. */
function transposed(values: Float32Array, rows: number): Float32Array {
  const columns = values.length / rows;
  const result = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      result[column * rows + row] = values[row * columns + column] as number;
    }
  }
  return result;
}

/** Those that a Llama has: llama.cpp keeps no fused ones for it. */
const tensorNames: Partial<Record<LoraModule, string>> = {
  q_proj: "attn_q",
  k_proj: "attn_k",
  v_proj: "attn_v",
  o_proj: "attn_output",
  gate_proj: "ffn_gate",
  up_proj: "ffn_up",
  down_proj: "ffn_down",
};
