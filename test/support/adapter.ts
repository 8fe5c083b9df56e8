/** Builds small PEFT adapters in memory, valid ones and, with a twist, hostile ones. */
import type { BaseShape } from "../../sdk/protocol/catalog.ts";

/** A base of two layers that fits on a line. */
export const tinyShape: BaseShape = {
  family: "llama",
  layers: 2,
  hiddenSize: 8,
  vocabSize: 32,
  modules: { q_proj: { in: 8, out: 8 }, v_proj: { in: 8, out: 4 }, up_proj: { in: 8, out: 12 } },
  trainedAs: ["test/tiny-base"],
};

export type TestTensor = {
  name: string;
  shape: number[];
  values: Float32Array<ArrayBuffer>;
  dtype?: string;
};

/**
 * @param seed       other seeds give other weights, and so another digest
 * @param magnitudes what the tensors of DoRA are called; there are none when it is absent
 */
export function buildAdapter({
  shape = tinyShape,
  rank = 2,
  seed = 1,
  config = {},
  magnitudes,
}: {
  shape?: BaseShape;
  rank?: number;
  seed?: number;
  config?: object;
  magnitudes?: string;
} = {}): {
  config: Uint8Array<ArrayBuffer>;
  weights: Uint8Array<ArrayBuffer>;
} {
  const values = (length: number, phase: number) =>
    Float32Array.from({ length }, (_, i) => Math.sin(i + phase + seed) / 10);
  const tensors = Array.from({ length: shape.layers }, (_, layer) =>
    ["q_proj", "v_proj"].flatMap((module): TestTensor[] => {
      const size = shape.modules[module]!;
      const path = `base_model.model.model.layers.${layer}.self_attn.${module}`;
      return [
        {
          name: `${path}.lora_A.weight`,
          shape: [rank, size.in],
          values: values(rank * size.in, layer),
        },
        {
          name: `${path}.lora_B.weight`,
          shape: [size.out, rank],
          values: values(size.out * rank, -layer),
        },
        ...(magnitudes
          ? [{ name: `${path}.${magnitudes}`, shape: [size.out], values: values(size.out, 2) }]
          : []),
      ];
    }),
  ).flat();
  const file = {
    peft_type: "LORA",
    task_type: "CAUSAL_LM",
    base_model_name_or_path: shape.trainedAs[0] ?? null,
    r: rank,
    lora_alpha: 2 * rank,
    target_modules: ["q_proj", "v_proj"],
    ...(magnitudes && { use_dora: true }),
    ...config,
  };
  return { config: encode(JSON.stringify(file)), weights: writeSafetensors(tensors) };
}

/** A safetensors file with its tensors in the given order. */
export function writeSafetensors(tensors: readonly TestTensor[]): Uint8Array<ArrayBuffer> {
  let offset = 0;
  const header: Record<string, unknown> = {};
  for (const { name, shape, values, dtype = "F32" } of tensors) {
    header[name] = { dtype, shape, data_offsets: [offset, offset + values.byteLength] };
    offset += values.byteLength;
  }
  const data = tensors.map(
    ({ values }) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
  );
  return joinSafetensors(JSON.stringify(header), concat(data));
}

/** Any header text before any data, padded with spaces as the format asks. */
export function joinSafetensors(header: string, data: Uint8Array): Uint8Array<ArrayBuffer> {
  const text = encode(header);
  const padded = new Uint8Array(Math.ceil(text.length / 8) * 8).fill(0x20);
  padded.set(text);
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(padded.length), true);
  return concat([length, padded, data]);
}

function concat(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

const encode = (text: string): Uint8Array<ArrayBuffer> =>
  Uint8Array.from(new TextEncoder().encode(text));
