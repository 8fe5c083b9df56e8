/** Tokenizers rebuilt from GGUF metadata, against the goldens of the `tokenizer.json` they came from. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { createChatTemplate } from "../templates/chat-template.ts";
import { createTokenizer } from "../tokenizer.ts";
import { GgufCheckpoint } from "./checkpoint.ts";
import type { GgufValue } from "./header.ts";
import { toTokenizer } from "./tokenizer.ts";

const fixtures = fileURLToPath(new URL("../../../../shared/fixtures/families", import.meta.url));

type Golden = { text: string; ids_without_added: number[]; decoded_skip_special: string };
type Goldens = { encode: Golden[]; chat: { messages: []; rendered: string } };

describe.skipIf(!existsSync(fixtures))("family fixtures (skipped without ../shared)", () => {
  test.each([
    ["llama-gqa-q8_0", "llama3"],
    ["qwen2-f16", "qwen2"],
    ["qwen3-q8_0", "qwen2"],
  ])("%s", async (file, style) => {
    const checkpoint = await GgufCheckpoint.open(join(fixtures, `gguf/${file}.gguf`));
    const files = toTokenizer(checkpoint.metadata);
    await checkpoint.close();
    const tokenizer = createTokenizer(files.tokenizer);

    const goldens: Goldens = JSON.parse(
      readFileSync(join(fixtures, "tokenizers", style, "goldens.json"), "utf8"),
    );
    for (const { text, ids_without_added: ids, decoded_skip_special: decoded } of goldens.encode) {
      expect({ text, ids: tokenizer.encode(text) }).toEqual({ text, ids });
      expect(tokenizer.decode(ids)).toBe(decoded);
    }
    const template = createChatTemplate(files.chatTemplate ?? "", tokenizer.specialTokens);
    expect(template.render(goldens.chat.messages)).toBe(goldens.chat.rendered);
  });
});

test("SentencePiece's pieces and scores give its ids, and the ids its text", async () => {
  // Made by sentencepiece 0.2.3: BPE with byte fallback, 700 pieces of this repository's documents.
  const url = new URL("__fixtures__/sentence-piece.json", import.meta.url);
  const { tokens, scores, types, cases } = JSON.parse(readFileSync(url, "utf8"));
  const files = toTokenizer(
    new Map<string, GgufValue>([
      ["tokenizer.ggml.model", "llama"],
      ["tokenizer.ggml.tokens", tokens],
      ["tokenizer.ggml.scores", scores],
      ["tokenizer.ggml.token_type", types],
      ["tokenizer.ggml.unknown_token_id", 0],
    ]),
  );
  const tokenizer = createTokenizer(files.tokenizer);
  for (const { text, ids, decoded } of cases) {
    expect({ text, ids: tokenizer.encode(text) }).toEqual({ text, ids });
    expect(tokenizer.decode(ids)).toBe(decoded);
  }
});

test("a kind of tokenizer and a rule for words that are not known are refused by name", () => {
  const metadata = (model: string, pre: string) =>
    new Map<string, string | string[]>([
      ["tokenizer.ggml.model", model],
      ["tokenizer.ggml.pre", pre],
      ["tokenizer.ggml.tokens", ["a"]],
      ["tokenizer.ggml.merges", []],
    ]);
  expect(() => toTokenizer(metadata("bert", "default"))).toThrow(/'bert' is not supported/);
  expect(() => toTokenizer(metadata("gpt2", "klingon"))).toThrow(/'klingon'.*qwen2/);
  expect(() => toTokenizer(new Map())).toThrow(/tokenizer/);
});
