/** An encoder small enough to compute by hand, written as sentence-transformers exports one. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { uniform } from "../engine/philox.ts";
import { OnnxGraph } from "../models/onnx-graph.ts";

export const tinyWidth = 6;
const words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "small", "model", "reads", "words"];

export type TinyOptions = {
  /** As in `pooling_mode_…`. */
  pooling?: string;
  /** Whether padding is left out of what tokens see of each other. */
  heedsMask?: boolean;
  /** Steps of `modules.json` behind the pooling. */
  steps?: readonly string[];
  /** A token whose embedding is not a number. */
  brokenToken?: number;
  /** Adds to the graph what nobody asked for. */
  strange?: (graph: OnnxGraph) => void;
};

/** Each token's state is its embedding plus the mean of all embeddings of its text. */
export async function writeTinyEncoder(folder: string, options: TinyOptions = {}): Promise<void> {
  const { pooling = "mean_tokens", steps = ["Normalize"] } = options;
  await mkdir(join(folder, "1_Pooling"), { recursive: true });
  await OnnxGraph.write(folder, [{ name: "model.onnx", build: (graph) => build(graph, options) }]);
  const names = ["Transformer", "Pooling", ...steps];
  const files: Record<string, unknown> = {
    "modules.json": names.map((name, idx) => ({
      idx,
      name: String(idx),
      path: name === "Pooling" ? "1_Pooling" : "",
      type: `sentence_transformers.models.${name}`,
    })),
    "1_Pooling/config.json": { word_embedding_dimension: tinyWidth, [`pooling_mode_${pooling}`]: true },
    "config.json": { model_type: "bert", vocab_size: words.length, max_position_embeddings: 64 },
    "sentence_bert_config.json": { max_seq_length: 32 },
    "tokenizer_config.json": { unk_token: "[UNK]" },
    "tokenizer.json": tokenizer,
  };
  for (const [name, content] of Object.entries(files)) {
    await writeFile(join(folder, name), JSON.stringify(content));
  }
}

/** What the tiny encoder makes of some tokens before pooling, `[tokens][width]`: the definition. */
export function tinyStates(tokens: readonly number[]): number[][] {
  const rows = tokens.map((token) => Array.from({ length: tinyWidth }, (_, i) => embedding(token, i)));
  const mean = Array.from({ length: tinyWidth }, (_, i) => rows.reduce((sum, row) => sum + row[i]!, 0) / rows.length);
  return rows.map((row) => row.map((value, i) => value + mean[i]!));
}

function embedding(token: number, i: number): number {
  return uniform(7, token, i) - 0.5;
}

async function build(graph: OnnxGraph, { heedsMask = true, brokenToken, strange }: TinyOptions): Promise<void> {
  for (const name of ["input_ids", "attention_mask"]) graph.input(name, "int64", ["rows", "tokens"]);
  const values = Float32Array.from({ length: words.length * tinyWidth }, (_, at) =>
    Math.floor(at / tinyWidth) === brokenToken ? Number.NaN : embedding(Math.floor(at / tinyWidth), at % tinyWidth),
  );
  await graph.weight("embedding", "float32", [words.length, tinyWidth], () => values);
  graph.op("Gather", ["embedding", "input_ids"], "embedded", { axis: 0 });
  graph.op("Cast", ["attention_mask"], "mask", { to: 1 });
  const ones = graph.op("Add", [graph.op("Mul", ["mask", graph.floats("zero", [0], [])], "zeros"), graph.floats("one", [1], [])], "ones");
  graph.op("Unsqueeze", [heedsMask ? "mask" : ones, graph.ints("axis.last", [-1])], "weights");
  const axis = graph.ints("axis.tokens", [1]);
  const sum = graph.op("ReduceSum", [graph.op("Mul", ["embedded", "weights"], "weighed"), axis], "sum", { keepdims: 1 });
  const count = graph.op("ReduceSum", ["weights", axis], "count", { keepdims: 1 });
  graph.op("Add", ["embedded", graph.op("Div", [sum, count], "mean")], "last_hidden_state");
  graph.output("last_hidden_state", "float32", ["rows", "tokens", tinyWidth]);
  strange?.(graph);
}

const tokenizer = {
  version: "1.0",
  // As exporters leave them: of no effect on what is served.
  truncation: { max_length: 4, strategy: "LongestFirst", stride: 0, direction: "Right" },
  padding: { strategy: { Fixed: 8 }, direction: "Right", pad_id: 0, pad_type_id: 0, pad_token: "[PAD]" },
  added_tokens: words.slice(0, 4).map((content, id) => ({ id, content, special: true, normalized: false })),
  normalizer: { type: "BertNormalizer", clean_text: true, handle_chinese_chars: true, strip_accents: null, lowercase: true },
  pre_tokenizer: { type: "BertPreTokenizer" },
  post_processor: {
    type: "TemplateProcessing",
    single: [
      { SpecialToken: { id: "[CLS]", type_id: 0 } },
      { Sequence: { id: "A", type_id: 0 } },
      { SpecialToken: { id: "[SEP]", type_id: 0 } },
    ],
    pair: [],
    special_tokens: {
      "[CLS]": { id: "[CLS]", ids: [2], tokens: ["[CLS]"] },
      "[SEP]": { id: "[SEP]", ids: [3], tokens: ["[SEP]"] },
    },
  },
  decoder: { type: "WordPiece", prefix: "##", cleanup: true },
  model: {
    type: "WordPiece",
    unk_token: "[UNK]",
    continuing_subword_prefix: "##",
    max_input_chars_per_word: 100,
    vocab: Object.fromEntries(words.map((word, id) => [word, id])),
  },
};
