/**
 * Rebuilds a `tokenizer.json` from what a GGUF file keeps of it: vocabulary, merges, and a name for the
 * rule that cuts text into words. The rules themselves are in no file; they are the table at the end.
 */
import { z } from "zod";
import { HubError } from "../../../sdk/protocol/errors.ts";
import type { GgufValue } from "./header.ts";

export type TokenizerFiles = {
  /** As `tokenizer.json`. */
  tokenizer: object;
  /** As `tokenizer_config.json`: the names of the special tokens that templates refer to. */
  config: object;
  chatTemplate: string | undefined;
};

/** @throws HubError `unsupported_model` that names what is missing or not known */
export function toTokenizerFiles(metadata: ReadonlyMap<string, GgufValue>): TokenizerFiles {
  const parsed = tokenizerKeys.safeParse(Object.fromEntries(metadata));
  if (!parsed.success) refuse(z.prettifyError(parsed.error));
  const keys = parsed.data;
  const words = wordRules.get(keys["tokenizer.ggml.pre"]);
  if (!words) {
    const known = [...wordRules.keys()].join(", ");
    return refuse(`the rule '${keys["tokenizer.ggml.pre"]}' is not supported; known are ${known}.`);
  }
  const tokens = keys["tokenizer.ggml.tokens"];
  const types = keys["tokenizer.ggml.token_type"] ?? tokens.map(() => tokenType.normal);
  if (types.length !== tokens.length) {
    refuse(`there are ${tokens.length} tokens and ${types.length} types.`);
  }
  const isAdded = (id: number) => types[id] === tokenType.control || types[id] === tokenType.user;
  const ids = tokens.map((_, id) => id).filter((id) => types[id] !== tokenType.unused);
  const ordinary = ids.filter((id) => !isAdded(id));
  const tokenizer = {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: ids.filter(isAdded).map((id) => ({
      id,
      content: tokens[id],
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: types[id] === tokenType.control,
    })),
    normalizer: words.normalizer,
    pre_tokenizer: { type: "Sequence", pretokenizers: words.steps },
    post_processor: null,
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: words.ignoresMerges,
      vocab: Object.fromEntries(ordinary.map((id) => [tokens[id], id])),
      merges: keys["tokenizer.ggml.merges"],
    },
  };
  return {
    tokenizer,
    config: specialTokens(keys),
    chatTemplate: keys["tokenizer.chat_template"],
  };
}

function specialTokens(keys: z.infer<typeof tokenizerKeys>): object {
  const tokens = keys["tokenizer.ggml.tokens"];
  const named = Object.entries({
    bos_token: keys["tokenizer.ggml.bos_token_id"],
    eos_token: keys["tokenizer.ggml.eos_token_id"],
    pad_token: keys["tokenizer.ggml.padding_token_id"],
  });
  return Object.fromEntries(
    named.flatMap(([name, id]) => (id === undefined ? [] : [[name, tokens[id]]])),
  );
}

function refuse(message: string): never {
  throw new HubError("unsupported_model", `The GGUF file's tokenizer: ${message}`);
}

/** `tokenizer.ggml.token_type`, as in llama.cpp's `llama_token_type`. */
const tokenType = { normal: 1, control: 3, user: 4, unused: 5 };

const tokenizerKeys = z.object({
  "tokenizer.ggml.model": z.literal("gpt2", {
    error: (issue) =>
      `the kind '${String(issue.input).slice(0, 40)}' is not supported; byte-level BPE ('gpt2') is.`,
  }),
  "tokenizer.ggml.pre": z.string().default("default"),
  "tokenizer.ggml.tokens": z.array(z.string()).min(1),
  "tokenizer.ggml.token_type": z.array(z.int()).optional(),
  "tokenizer.ggml.merges": z.array(z.string()),
  "tokenizer.ggml.bos_token_id": z.int().nonnegative().optional(),
  "tokenizer.ggml.eos_token_id": z.int().nonnegative().optional(),
  "tokenizer.ggml.padding_token_id": z.int().nonnegative().optional(),
  "tokenizer.chat_template": z.string().optional(),
});

type WordRule = { normalizer: object | null; steps: object[]; ignoresMerges: boolean };

/** The words of a regular expression, then their bytes as letters. */
function byPattern(pattern: string, rest: Partial<WordRule> = {}): WordRule {
  const split = { type: "Split", pattern: { Regex: pattern }, behavior: "Isolated", invert: false };
  const bytes = {
    type: "ByteLevel",
    add_prefix_space: false,
    trim_offsets: true,
    use_regex: false,
  };
  return { normalizer: null, ignoresMerges: false, ...rest, steps: [split, bytes] };
}

const gpt2Words = {
  type: "ByteLevel",
  add_prefix_space: false,
  trim_offsets: true,
  use_regex: true,
};
const [beforeNumbers, afterNumbers] = [
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|",
  "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
];
const llama3 = byPattern(`${beforeNumbers}\\p{N}{1,3}${afterNumbers}`, { ignoresMerges: true });
const qwen2 = byPattern(`${beforeNumbers}\\p{N}${afterNumbers}`, { normalizer: { type: "NFC" } });

/** By `tokenizer.ggml.pre`; the patterns are those of the models' own `tokenizer.json`. */
const wordRules: ReadonlyMap<string, WordRule> = new Map([
  ["gpt-2", { normalizer: null, ignoresMerges: false, steps: [gpt2Words] }],
  ["llama-bpe", llama3],
  ["llama3", llama3],
  ["qwen2", qwen2],
  ["deepseek-r1-qwen", qwen2],
  [
    "smollm",
    {
      normalizer: null,
      ignoresMerges: false,
      steps: [{ type: "Digits", individual_digits: true }, gpt2Words],
    },
  ],
]);
