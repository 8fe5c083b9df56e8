/** Rebuilds a `tokenizer.json` from what a GGUF file keeps of it. */
import { z } from "zod";
import { HubError } from "../../../sdk/protocol/errors.ts";
import type { ModelSource } from "../model-source.ts";
import { wordRules } from "./byte-level.ts";
import type { GgufValue } from "./header.ts";
import { mergesOf, sentencePieceSteps } from "./sentence-piece.ts";

/** @throws HubError `unsupported_model` that names what is missing or not known */
export function toTokenizer(
  metadata: ReadonlyMap<string, GgufValue>,
): Pick<ModelSource, "tokenizer" | "chatTemplate"> {
  const parsed = tokenizerKeys.safeParse(Object.fromEntries(metadata));
  if (!parsed.success) refuse(z.prettifyError(parsed.error));
  const keys = parsed.data;
  const vocabulary = readVocabulary(keys);
  const kind = keys["tokenizer.ggml.model"];
  const parts = kind === "gpt2" ? byteLevel(keys) : sentencePiece(keys, vocabulary);
  const tokenizer = {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: vocabulary.added,
    post_processor: null,
    ...parts.steps,
    model: {
      type: "BPE",
      dropout: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      vocab: Object.fromEntries(vocabulary.ids),
      ...parts.model,
    },
  };
  return {
    tokenizer: { tokenizer, config: specialTokens(keys) },
    chatTemplate: keys["tokenizer.chat_template"],
  };
}

type Vocabulary = {
  /** Ids of the tokens that text is made of. */
  ids: ReadonlyMap<string, number>;
  /** Tokens that are found in text as they are written. */
  added: readonly object[];
};

function readVocabulary(keys: TokenizerKeys): Vocabulary {
  const tokens = keys["tokenizer.ggml.tokens"];
  const types = keys["tokenizer.ggml.token_type"] ?? tokens.map(() => tokenType.normal);
  if (types.length !== tokens.length) {
    refuse(`there are ${tokens.length} tokens and ${types.length} types.`);
  }
  const ids = new Map<string, number>();
  const added: object[] = [];
  tokens.forEach((content, id) => {
    const type = types[id];
    if (type === tokenType.unused) return;
    if (type !== tokenType.control && type !== tokenType.user) {
      ids.set(content, id);
      return;
    }
    const special = type === tokenType.control;
    const asWritten = { single_word: false, lstrip: false, rstrip: false, normalized: false };
    added.push({ id, content, special, ...asWritten });
  });
  return { ids, added };
}

/** What differs between kinds of tokenizers: the steps around the model, and the model's own options. */
type Parts = { steps: object; model: object };

function byteLevel(keys: TokenizerKeys): Parts {
  const rule = keys["tokenizer.ggml.pre"];
  const words = wordRules.get(rule);
  if (!words) {
    const known = [...wordRules.keys()].join(", ");
    return refuse(`the rule '${rule.slice(0, 40)}' is not supported; known are ${known}.`);
  }
  const merges = keys["tokenizer.ggml.merges"] ?? refuse("there are no merges.");
  return {
    steps: {
      normalizer: words.normalizer,
      pre_tokenizer: { type: "Sequence", pretokenizers: words.steps },
      decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    },
    model: {
      unk_token: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: words.ignoresMerges,
      merges,
    },
  };
}

function sentencePiece(keys: TokenizerKeys, { ids }: Vocabulary): Parts {
  const tokens = keys["tokenizer.ggml.tokens"];
  const scores = keys["tokenizer.ggml.scores"] ?? [];
  if (scores.length !== tokens.length) {
    refuse(`there are ${tokens.length} tokens and ${scores.length} scores.`);
  }
  const pieces = new Map([...ids].map(([piece, id]) => [piece, scores[id] ?? 0]));
  const unknown = keys["tokenizer.ggml.unknown_token_id"];
  const startsWithBlank = keys["tokenizer.ggml.add_space_prefix"];
  return {
    steps: sentencePieceSteps({ startsWithBlank }),
    model: {
      unk_token: unknown === undefined ? null : tokens[unknown],
      fuse_unk: true,
      byte_fallback: true,
      ignore_merges: false,
      merges: mergesOf(pieces),
    },
  };
}

function specialTokens(keys: TokenizerKeys): object {
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
  "tokenizer.ggml.model": z.enum(["gpt2", "llama"], {
    error: (issue) =>
      `the kind '${String(issue.input).slice(0, 40)}' is not supported; byte-level BPE ('gpt2') and SentencePiece's ('llama') are.`,
  }),
  "tokenizer.ggml.pre": z.string().default("default"),
  "tokenizer.ggml.tokens": z.array(z.string()).min(1),
  "tokenizer.ggml.token_type": z.array(z.int()).optional(),
  "tokenizer.ggml.merges": z.array(z.string()).optional(),
  "tokenizer.ggml.scores": z.array(z.number()).optional(),
  "tokenizer.ggml.add_space_prefix": z.boolean().default(true),
  "tokenizer.ggml.bos_token_id": z.int().nonnegative().optional(),
  "tokenizer.ggml.eos_token_id": z.int().nonnegative().optional(),
  "tokenizer.ggml.unknown_token_id": z.int().nonnegative().optional(),
  "tokenizer.ggml.padding_token_id": z.int().nonnegative().optional(),
  "tokenizer.chat_template": z.string().optional(),
});
type TokenizerKeys = z.infer<typeof tokenizerKeys>;
