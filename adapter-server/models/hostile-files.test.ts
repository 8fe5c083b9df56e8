/** Small files of a model with anything in any place: they are read or refused, and nothing else happens. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { HubError } from "../../sdk/protocol/errors.ts";
import { demoFolder } from "../__fixtures__/demo-model.ts";
import { familyOf } from "./families/known.ts";
import { toConfig } from "./gguf/config.ts";
import type { GgufValue } from "./gguf/header.ts";
import { toTokenizer } from "./gguf/tokenizer.ts";
import { readSourceFacts } from "./library/source-facts.ts";
import { openModelSource } from "./model-source.ts";
import { createTokenizer } from "./tokenizer.ts";

/** What stands in the place of something else. */
const anything = fc.oneof(
  fc.jsonValue({ maxDepth: 2 }),
  fc.constantFrom<unknown>(
    2 ** 53,
    1e308,
    -1,
    0.5,
    "__proto__",
    "Sequence",
    "ByteLevel",
    "Replace",
    { Regex: "(" },
    { Regex: "\\p{L}+" },
    { String: "" },
    [[]],
    null,
  ),
);
const changes = fc.array(fc.record({ at: fc.nat(10_000), to: anything }), {
  minLength: 1,
  maxLength: 4,
});

/** A copy in which the value at some place, counted depth first, is another. */
function changed(value: unknown, { at, to }: { at: number; to: unknown }): unknown {
  let left = at % countOf(value);
  const copy = (node: unknown): unknown => {
    if (left-- === 0) return to;
    if (Array.isArray(node)) return node.map(copy);
    if (typeof node !== "object" || node === null) return node;
    return Object.fromEntries(Object.entries(node).map(([key, each]) => [key, copy(each)]));
  };
  return copy(value);
}

function countOf(value: unknown): number {
  if (typeof value !== "object" || value === null) return 1;
  return Object.values(value).reduce((sum: number, each) => sum + countOf(each), 1);
}

/** Any outcome but an error of ours or a result is a failure. */
function readOrRefused(read: () => void): void {
  try {
    read();
  } catch (error) {
    expect(error).toBeInstanceOf(HubError);
  }
}

const letters = [..."abcdefgh▁Ġ"].map((letter, id) => [letter, id] as const);
const asWritten = { single_word: false, lstrip: false, rstrip: false, normalized: false };
const byteLevel = {
  type: "ByteLevel",
  add_prefix_space: false,
  trim_offsets: true,
  use_regex: true,
};
const tokenizerFile = {
  version: "1.0",
  truncation: null,
  padding: null,
  added_tokens: [{ id: 12, content: "<|end|>", special: true, ...asWritten }],
  normalizer: {
    type: "Sequence",
    normalizers: [{ type: "NFC" }, { type: "Replace", pattern: { String: " " }, content: "▁" }],
  },
  pre_tokenizer: {
    type: "Sequence",
    pretokenizers: [
      { type: "Split", pattern: { Regex: "\\s+|\\p{L}+" }, behavior: "Isolated", invert: false },
      byteLevel,
    ],
  },
  post_processor: null,
  decoder: { type: "Sequence", decoders: [{ type: "ByteFallback" }, { type: "Fuse" }, byteLevel] },
  model: {
    type: "BPE",
    dropout: null,
    unk_token: null,
    continuing_subword_prefix: null,
    end_of_word_suffix: null,
    fuse_unk: false,
    byte_fallback: false,
    ignore_merges: false,
    vocab: { ...Object.fromEntries(letters), ab: 10, abc: 11 },
    merges: ["a b", ["ab", "c"]],
  },
};

describe("tokenizers", () => {
  // The tokenizer's package tells the console of patterns that it does not know.
  beforeAll(() => void vi.spyOn(console, "warn").mockImplementation(() => {}));
  afterAll(() => void vi.restoreAllMocks());

  test("any values in any places of tokenizer.json", () => {
    fc.assert(
      fc.property(changes, fc.string({ unit: "binary", maxLength: 30 }), (all, text) => {
        const tokenizer = all.reduce<unknown>(changed, tokenizerFile);
        readOrRefused(() => {
          const made = createTokenizer({ tokenizer, config: { eos_token: "<|end|>" } });
          made.decode(made.encode(`abc ${text}`));
        });
      }),
      { numRuns: 2_000, seed: 4 },
    );
  });

  test("any values in any places of tokenizer_config.json", () => {
    const config = {
      eos_token: { content: "<|end|>" },
      additional_special_tokens: ["<|end|>"],
      add_bos_token: false,
    };
    fc.assert(
      fc.property(changes, (all) => {
        const changedConfig = all.reduce<unknown>(changed, config);
        readOrRefused(() => createTokenizer({ tokenizer: tokenizerFile, config: changedConfig }));
      }),
      { numRuns: 1_000, seed: 4 },
    );
  });

  test("any values in any places of a GGUF file's vocabulary", () => {
    const tokens = ["<s>", "▁", "a", "b", "ab", "▁a", "<0x0A>", "<|end|>"];
    const metadata = {
      "tokenizer.ggml.tokens": tokens,
      "tokenizer.ggml.token_type": [3, 1, 1, 1, 1, 1, 6, 3],
      "tokenizer.ggml.scores": tokens.map((_, id) => -id),
      "tokenizer.ggml.merges": ["a b", "▁ a"],
      "tokenizer.ggml.eos_token_id": 7,
      "tokenizer.ggml.unknown_token_id": 0,
      "tokenizer.chat_template": "{{ messages }}",
    };
    const kinds = fc.constantFrom(
      { "tokenizer.ggml.model": "llama" },
      { "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2" },
    );
    fc.assert(
      fc.property(kinds, changes, (kind, all) => {
        const values = all.reduce<unknown>(changed, { ...kind, ...metadata });
        if (typeof values !== "object" || values === null) return;
        readOrRefused(() => {
          const files = toTokenizer(new Map(Object.entries(values as Record<string, GgufValue>)));
          const made = createTokenizer(files.tokenizer);
          made.decode(made.encode("a bab\n"));
        });
      }),
      { numRuns: 2_000, seed: 4 },
    );
  });
});

describe("settings", () => {
  test("any values in any places of config.json", async () => {
    const base = JSON.parse(await readFile(join(demoFolder, "base/config.json"), "utf8"));
    const more = {
      rope_scaling: { rope_type: "yarn", factor: 4, original_max_position_embeddings: 64 },
      layer_types: ["full_attention"],
      sliding_window: 8,
      head_dim: 32,
    };
    const architectures = ["Llama", "Qwen2", "Qwen3", "Mistral", "Phi3", "Gemma3"];
    fc.assert(
      fc.property(fc.constantFrom(...architectures), changes, (name, all) => {
        const config = all.reduce<unknown>(changed, { ...base, ...more });
        const named = { ...(config as object), architectures: [`${name}ForCausalLM`] };
        readOrRefused(() => familyOf(named).readSpec(named));
      }),
      { numRuns: 2_000, seed: 4 },
    );
  });

  test("any values in any places of a GGUF file's metadata", () => {
    const metadata = {
      "general.name": "tiny",
      "llama.block_count": 2,
      "llama.context_length": 128,
      "llama.embedding_length": 64,
      "llama.feed_forward_length": 96,
      "llama.attention.head_count": 4,
      "llama.attention.layer_norm_rms_epsilon": 1e-5,
      "llama.rope.scaling.type": "linear",
      "llama.rope.scaling.factor": 2,
      "tokenizer.ggml.eos_token_id": 1,
    };
    fc.assert(
      fc.property(changes, (all) => {
        const values = all.reduce<unknown>(changed, {
          "general.architecture": "llama",
          ...metadata,
        });
        if (typeof values !== "object" || values === null) return;
        readOrRefused(() => {
          const config = toConfig(new Map(Object.entries(values as Record<string, GgufValue>)), {
            vocabSize: 8,
            tiedEmbedding: true,
          });
          familyOf(config).readSpec(config);
        });
      }),
      { numRuns: 2_000, seed: 4 },
    );
  });

  test("counts that no model has are refused before anything is made for them", () => {
    const config = {
      architectures: ["LlamaForCausalLM"],
      hidden_size: 64,
      intermediate_size: 96,
      num_attention_heads: 4,
      vocab_size: 8,
      rms_norm_eps: 1e-5,
      max_position_embeddings: 128,
      num_hidden_layers: 2,
    };
    const read = (change: object) => () =>
      familyOf({ ...config, ...change }).readSpec({ ...config, ...change });
    read({})();
    for (const change of [
      { num_hidden_layers: 4e9 },
      { max_position_embeddings: 2 ** 40 },
      { hidden_size: 2 ** 40 },
      { num_attention_heads: 2 ** 40 },
      { vocab_size: 2 ** 40 },
    ]) {
      expect(read(change)).toThrow(
        expect.objectContaining({
          code: "unsupported_model",
          message: expect.stringContaining(Object.keys(change)[0]!),
        }),
      );
    }
  });
});

describe("files of a folder", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "switchyard-hostile-"));
    for (const name of ["config.json", "tokenizer.json", "model.safetensors"]) {
      await writeFile(join(folder, name), await readFile(join(demoFolder, "base", name)));
    }
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  test.each([
    ["config.json", "[]", /architecture 'none'/],
    ["config.json", "null", /architecture 'none'/],
    ["config.json", "{", /config\.json is not valid JSON/],
    ["generation_config.json", '{"temperature": "hot"}', /generation_config\.json/],
    ["generation_config.json", "[]", /generation_config\.json/],
    [
      "model.safetensors.index.json",
      '{"weight_map": {"a": "../../x.safetensors"}}',
      /model\.safetensors\.index\.json/,
    ],
    [
      "model.safetensors.index.json",
      '{"weight_map": {"a": "model-00001-of-00002.safetensors"}}',
      /no file 'model-00001-of-00002/,
    ],
    ["model.safetensors.index.json", "{}", /model\.safetensors\.index\.json/],
  ])("%s of %s", async (name, text, message) => {
    const before = await readFile(join(folder, name)).catch(() => undefined);
    await writeFile(join(folder, name), text);
    await expect(openModelSource(folder)).rejects.toThrow(
      expect.objectContaining({
        code: "unsupported_model",
        message: expect.stringMatching(message),
      }),
    );
    if (before) await writeFile(join(folder, name), before);
    else await rm(join(folder, name));
  });

  test.each(["[]", "null", "5", "{"])("facts of a folder whose config.json is %s", async (text) => {
    const before = await readFile(join(folder, "config.json"));
    await writeFile(join(folder, "config.json"), text);
    await expect(readSourceFacts(folder)).rejects.toMatchObject({
      code: "unsupported_model",
      message: expect.stringContaining("config.json"),
    });
    await writeFile(join(folder, "config.json"), before);
  });
});
