/** A model's tokenizer, from what every Hugging Face checkpoint carries as `tokenizer.json`. */
import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { z } from "zod";
import { HubError } from "../../sdk/protocol/errors.ts";
import { controlTokens } from "./control-tokens.ts";
import type { TokenizerFiles } from "./model-source.ts";
import { tokenBytes } from "./token-bytes.ts";
import { checkPatterns } from "./tokenizer-patterns.ts";

export type Tokenizer = {
  /**
   * Control tokens written in the text are recognised.
   * @param options.addSpecialTokens whether the tokens are added that the tokenizer sets at the start and end of a
   *   text; absent is not, because chat templates write them
   */
  encode(text: string, options?: { addSpecialTokens?: boolean }): number[];
  /** The text as `encode` takes it for nothing but text, whatever control tokens it spells. */
  quote(text: string): string;
  /**
   * Special tokens are left out when nothing else is said. Bytes that are no whole character come out as U+FFFD.
   * Nothing is tidied up: spaces before full stops are text.
   */
  decode(ids: readonly number[], options?: { skipSpecialTokens?: boolean }): string;
  /** What one token stands for in UTF-8, control tokens by their names; it may be part of a character. */
  bytesOf(id: number): Uint8Array;
  /** The token's entry in the vocabulary, as the tokenizer's file writes it; empty when there is none. */
  wordOf(id: number): string;
  /** Whether a token steers the model and is no part of any text. */
  isControl(id: number): boolean;
  /** What chat templates refer to by name, such as `eos_token`. */
  specialTokens: Readonly<Record<string, string>>;
};

/** @throws HubError `unsupported_model` when the tokenizer cannot be read, or may stall who uses it */
export function createTokenizer({ tokenizer, config }: TokenizerFiles): Tokenizer {
  const steps = tokenizerSteps.safeParse(tokenizer).data ?? {};
  checkPatterns([steps.normalizer, steps.pre_tokenizer, steps.decoder]);
  try {
    const made = build(tokenizer, config);
    // Much of a file that is not what it should be shows only when it is used.
    made.bytesOf(0);
    made.decode(made.encode(probe));
    return made;
  } catch (cause) {
    throw new HubError("unsupported_model", "The model's tokenizer cannot be read.", { cause });
  }
}

function build(tokenizer: unknown, config: unknown): Tokenizer {
  const { bos_token, eos_token, pad_token, unk_token } = tokenizerConfig.parse(config);
  const control = controlTokens(tokenizer, config);
  const inner = new HuggingFaceTokenizer(control.tokenizer, z.looseObject({}).parse(config));
  const named = { bos_token, eos_token, pad_token, unk_token };
  return {
    encode: (text, { addSpecialTokens: add_special_tokens = false } = {}) =>
      inner.encode(control.resolve(text), { add_special_tokens }).ids,
    quote: control.quote,
    decode: (ids, { skipSpecialTokens = true } = {}) => {
      if (ids.length === 0) return "";
      const text = inner.decode([...ids], {
        skip_special_tokens: skipSpecialTokens,
        clean_up_tokenization_spaces: false,
      });
      return skipSpecialTokens ? text : control.restore(text);
    },
    bytesOf: tokenBytes(tokenizer, (id) => inner.id_to_token(id)),
    wordOf: (id) => control.restore(inner.id_to_token(id) ?? ""),
    isControl: (id) => control.ids.has(id),
    specialTokens: Object.fromEntries(
      Object.entries(named).flatMap(([name, token]) => (token ? [[name, content(token)]] : [])),
    ),
  };
}

function content(token: SpecialToken): string {
  return typeof token === "string" ? token : token.content;
}

const specialToken = z.union([z.string(), z.looseObject({ content: z.string() })]);
type SpecialToken = z.infer<typeof specialToken>;

const tokenizerConfig = z.looseObject({
  bos_token: specialToken.nullish(),
  eos_token: specialToken.nullish(),
  pad_token: specialToken.nullish(),
  unk_token: specialToken.nullish(),
});

const tokenizerSteps = z.object({
  normalizer: z.unknown().optional(),
  pre_tokenizer: z.unknown().optional(),
  decoder: z.unknown().optional(),
});
const probe = " A word, 12 números\n中文 🙂";
