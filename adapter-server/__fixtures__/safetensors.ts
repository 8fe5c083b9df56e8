/** Writes small safetensors files for tests. */

export type TestTensor = { dtype: "F32" | "F16" | "BF16" | "I32" | "I64"; shape: number[]; bytes: Uint8Array };

/** @see https://github.com/huggingface/safetensors#format */
export function safetensorsBytes(tensors: Record<string, TestTensor>): Uint8Array {
  let offset = 0;
  const header: Record<string, unknown> = {};
  for (const [name, { dtype, shape, bytes }] of Object.entries(tensors)) {
    header[name] = { dtype, shape, data_offsets: [offset, offset + bytes.length] };
    offset += bytes.length;
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(json.length), true);
  return Buffer.concat([length, json, ...Object.values(tensors).map(({ bytes }) => bytes)]);
}

export function float32Tensor(shape: number[], values: number[]): TestTensor {
  return { dtype: "F32", shape, bytes: new Uint8Array(Float32Array.from(values).buffer) };
}

/** Exact for values whose float32 ends in sixteen zero bits. */
export function bfloat16Tensor(shape: number[], values: number[]): TestTensor {
  const words = new Uint32Array(Float32Array.from(values).buffer);
  return { dtype: "BF16", shape, bytes: new Uint8Array(Uint16Array.from(words, (word) => word >>> 16).buffer) };
}
