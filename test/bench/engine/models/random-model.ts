/**
 * A Llama of any shape with random weights, as a GGUF file that both sides load: how fast a model is does
 * not depend on what it says. Weights are Q4_0; the tokenizer is SentencePiece's with made-up pieces.
 */
import { type GgufEntry, type GgufTensor, writeGguf } from "./gguf-writer.ts";
import { toHalf } from "./half.ts";
import { RandomNumbers } from "./random-numbers.ts";

export type LlamaShape = {
  layers: number;
  hidden: number;
  intermediate: number;
  heads: number;
  keyValueHeads: number;
  vocabulary: number;
};

/** TinyLlama's, of 1.1 billion parameters. */
export const shape1B: LlamaShape = {
  layers: 22,
  hidden: 2048,
  intermediate: 5632,
  heads: 32,
  keyValueHeads: 4,
  vocabulary: 32_000,
};

/** SmolLM2-135M's, for machines that do not have its file; its output matrix is not the embedding. */
export const shape135M: LlamaShape = {
  layers: 30,
  hidden: 576,
  intermediate: 1536,
  heads: 9,
  keyValueHeads: 3,
  vocabulary: 49_152,
};

/** Writes the model; the same bytes for the same shape. */
export async function writeRandomModel(path: string, shape: LlamaShape): Promise<void> {
  const pool = randomBlocks();
  await writeGguf(path, metadataOf(shape), tensorsOf(shape, pool));
}

function tensorsOf(shape: LlamaShape, pool: Uint8Array): GgufTensor[] {
  const { layers, hidden, intermediate, heads, keyValueHeads, vocabulary } = shape;
  const keyWidth = (hidden / heads) * keyValueHeads;
  let matrices = 0;
  const matrix = (name: string, out: number, inputs: number): GgufTensor => {
    const start = (matrices++ * 1009 * blockBytes) % pool.length;
    const bytes = ((out * inputs) / blockNumbers) * blockBytes;
    return {
      name,
      type: "Q4_0",
      shape: [out, inputs],
      parts: () => repeated(pool, { start, bytes }),
    };
  };
  const norm = (name: string): GgufTensor => ({
    name,
    type: "F32",
    shape: [hidden],
    parts: () => [new Uint8Array(new Float32Array(hidden).fill(1).buffer)],
  });
  const layer = (index: number): GgufTensor[] => [
    norm(`blk.${index}.attn_norm.weight`),
    matrix(`blk.${index}.attn_q.weight`, hidden, hidden),
    matrix(`blk.${index}.attn_k.weight`, keyWidth, hidden),
    matrix(`blk.${index}.attn_v.weight`, keyWidth, hidden),
    matrix(`blk.${index}.attn_output.weight`, hidden, hidden),
    norm(`blk.${index}.ffn_norm.weight`),
    matrix(`blk.${index}.ffn_gate.weight`, intermediate, hidden),
    matrix(`blk.${index}.ffn_up.weight`, intermediate, hidden),
    matrix(`blk.${index}.ffn_down.weight`, hidden, intermediate),
  ];
  return [
    matrix("token_embd.weight", vocabulary, hidden),
    ...Array.from({ length: layers }, (_, index) => layer(index)).flat(),
    norm("output_norm.weight"),
    matrix("output.weight", vocabulary, hidden),
  ];
}

function metadataOf(shape: LlamaShape): Record<string, GgufEntry> {
  const uint32 = (value: number): GgufEntry => ({ type: "uint32", value });
  const { tokens, scores, types } = vocabularyOf(shape.vocabulary);
  return {
    "general.architecture": { type: "string", value: "llama" },
    "general.name": { type: "string", value: "random weights" },
    "llama.block_count": uint32(shape.layers),
    "llama.context_length": uint32(2048),
    "llama.embedding_length": uint32(shape.hidden),
    "llama.feed_forward_length": uint32(shape.intermediate),
    "llama.attention.head_count": uint32(shape.heads),
    "llama.attention.head_count_kv": uint32(shape.keyValueHeads),
    "llama.attention.layer_norm_rms_epsilon": { type: "float32", value: 1e-5 },
    "llama.rope.dimension_count": uint32(shape.hidden / shape.heads),
    "llama.rope.freq_base": { type: "float32", value: 10_000 },
    "llama.vocab_size": uint32(shape.vocabulary),
    "general.file_type": uint32(2),
    "tokenizer.ggml.model": { type: "string", value: "llama" },
    "tokenizer.ggml.tokens": { type: "strings", value: tokens },
    "tokenizer.ggml.scores": { type: "float32s", value: scores },
    "tokenizer.ggml.token_type": { type: "int32s", value: types },
    "tokenizer.ggml.unknown_token_id": uint32(0),
    "tokenizer.ggml.bos_token_id": uint32(1),
    "tokenizer.ggml.eos_token_id": uint32(2),
    "tokenizer.chat_template": {
      type: "string",
      value: "{% for message in messages %}{{ message.content }}{% endfor %}",
    },
  };
}

/** The special tokens, all bytes, and pieces that are of no meaning. */
function vocabularyOf(size: number) {
  const bytes = Array.from(
    { length: 256 },
    (_, value) => `<0x${value.toString(16).toUpperCase().padStart(2, "0")}>`,
  );
  const fixed = ["<unk>", "<s>", "</s>", ...bytes];
  const pieces = Array.from({ length: size - fixed.length }, (_, index) => `▁w${index}`);
  const types = [
    tokenType.unknown,
    tokenType.control,
    tokenType.control,
    ...bytes.map(() => tokenType.byte),
    ...pieces.map(() => tokenType.normal),
  ];
  return {
    tokens: [...fixed, ...pieces],
    scores: types.map((type, id) => (type === tokenType.normal ? -id : 0)),
    types,
  };
}

/** Many blocks of Q4_0, each a scale and 32 random levels. Their standard deviation is that of a trained layer. */
function randomBlocks(): Uint8Array {
  const random = new RandomNumbers(1);
  const pool = new Uint8Array(poolBlocks * blockBytes);
  const scale = toHalf(0.0043);
  for (let at = 0; at < pool.length; at += blockBytes) {
    pool[at] = scale & 255;
    pool[at + 1] = scale >> 8;
    for (let i = 2; i < blockBytes; i++) pool[at + i] = random.bits() >>> 24;
  }
  return pool;
}

/** The pool over and over, from one of its blocks on. */
function* repeated(
  pool: Uint8Array,
  { start, bytes }: { start: number; bytes: number },
): Iterable<Uint8Array> {
  for (let left = bytes, from = start; left > 0; from = 0) {
    const part = pool.subarray(from, Math.min(pool.length, from + left));
    yield part;
    left -= part.length;
  }
}

const blockNumbers = 32;
const blockBytes = 18;
/** A prime, so that no two rows of a matrix are alike. */
const poolBlocks = 262_147;
/** As in llama.cpp's `llama_token_type`. */
const tokenType = { normal: 1, unknown: 2, control: 3, byte: 6 };
