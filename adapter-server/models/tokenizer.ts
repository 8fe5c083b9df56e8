/** A model's tokenizer, from the `tokenizer.json` that every Hugging Face checkpoint carries. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { z } from "zod";
import { HubError } from "../../sdk/protocol/errors.ts";
import { controlTokens } from "./control-tokens.ts";

export type Tokenizer = {
  /** Control tokens written in the text are recognised; nothing is added at the start or end. */
  encode(text: string): number[];
  /** The text as `encode` takes it for nothing but text, whatever control tokens it spells. */
  quote(text: string): string;
  /** Special tokens are left out. Bytes that are no whole character come out as U+FFFD. */
  decode(ids: readonly number[]): string;
  /** What chat templates refer to by name, such as `eos_token`. */
  specialTokens: Readonly<Record<string, string>>;
};

/**
 * @param folder holds `tokenizer.json` and, mostly, `tokenizer_config.json`
 * @throws HubError `unsupported_model` when the tokenizer cannot be read
 */
export async function loadTokenizer(folder: string): Promise<Tokenizer> {
  const tokenizer = await readJson(join(folder, "tokenizer.json"));
  const config = await readJson(join(folder, "tokenizer_config.json")).catch(() => ({}));
  return createTokenizer(tokenizer, config);
}

/** The same from parsed files. */
function createTokenizer(tokenizer: unknown, config: unknown): Tokenizer {
  const { bos_token, eos_token, pad_token, unk_token } = tokenizerConfig.parse(config);
  const control = controlTokens(tokenizer, config);
  const inner = new HuggingFaceTokenizer(control.tokenizer, z.looseObject({}).parse(config));
  const named = { bos_token, eos_token, pad_token, unk_token };
  return {
    encode: (text) => inner.encode(control.resolve(text), { add_special_tokens: false }).ids,
    quote: control.quote,
    decode: (ids) =>
      ids.length === 0 ? "" : inner.decode([...ids], { skip_special_tokens: true }),
    specialTokens: Object.fromEntries(
      Object.entries(named).flatMap(([name, token]) => (token ? [[name, content(token)]] : [])),
    ),
  };
}

async function readJson(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(path, "utf8"));
  } catch (cause) {
    throw new HubError("unsupported_model", "The model folder has no readable 'tokenizer.json'.", {
      cause,
    });
  }
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
