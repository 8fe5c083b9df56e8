/** Counts tokens: quickly and too high before a request, as well as can be when nobody told afterwards. */
import { createRequire } from "node:module";
import { Tiktoken } from "tiktoken/lite";
import type { Model } from "../../sdk/protocol/catalog.ts";
import type { Call } from "../dialects/dialect.ts";

export type Tokenizer = NonNullable<Model["tokenizer"]>;

/**
 * An upper bound that costs nothing: a byte-level tokenizer makes no more tokens than there are bytes, and
 * the JSON around each message is longer than what a chat template adds. Images are counted apart, because
 * a short URL may stand for many tokens.
 */
export function inputTokensBound(call: Call, media: MediaTokens): number {
  return call.bodyBytes + tokensOfMedia(call, media);
}

/**
 * The tokens of what can be read of the input, as near as can be told. Without the model's own tokenizer it is OpenAI's newest and a
 * quarter more, which covers the smaller vocabularies of open models on plain text.
 */
export function countInput(
  call: Call,
  tokenizer: Tokenizer | undefined,
  media: MediaTokens,
): number {
  const { all, schemas, tokenIds = 0 } = call.texts();
  const text = all.join("\n") + schemas;
  const counted = countTokens(text, tokenizer ?? "o200k_base");
  const framing = templateTokens * (all.length + 1);
  const known = tokenizer === undefined ? Math.ceil(counted * foreignMargin) : counted;
  return known + tokenIds + framing + tokensOfMedia(call, media);
}

/** As `countInput`, with nothing left out: what cannot be read is as many tokens as it has bytes. */
export function countInputAtMost(
  call: Call,
  tokenizer: Tokenizer | undefined,
  media: MediaTokens,
): number {
  return countInput(call, tokenizer, media) + (call.texts().unread?.() ?? 0);
}

/** What is taken for pictures, and for documents that are not in the request. */
export type MediaTokens = { imageTokens: number; documentTokens: number };

function tokensOfMedia(call: Call, { imageTokens, documentTokens }: MediaTokens): number {
  return imageTokens * call.images() + documentTokens * (call.documents?.() ?? 0);
}

/** As `countInput`, for where a guess is enough: four bytes to a token, as in English. */
export function guessInput(call: Call, imageTokens: number): number {
  return Math.ceil(call.bodyBytes / bytesPerToken) + imageTokens * call.images();
}

/** Tokens of a model's output: by its tokenizer, else four bytes each. */
export function countOutput(
  output: { toString(): string },
  tokenizer: Tokenizer | undefined,
): number {
  const text = output.toString();
  return tokenizer === undefined
    ? Math.ceil(Buffer.byteLength(text) / bytesPerToken)
    : countTokens(text, tokenizer);
}

/** Special tokens in the text are text. Of a text with words beyond `runCharsMax` it is a little more than the tokens. */
export function countTokens(text: string, tokenizer: Tokenizer): number {
  const encoder = loadTokenizer(tokenizer);
  let tokens = 0;
  for (const stretch of stretchesOf(text)) tokens += encoder.encode_ordinary(stretch).length;
  return tokens;
}

/** A word takes a time that grows with its length squared, and nobody else is served meanwhile: endless ones are cut. */
function stretchesOf(text: string): string[] {
  const stretches: string[] = [];
  let [from, runFrom, wasSpace] = [0, 0, false];
  for (let at = 0; at < text.length; at++) {
    const char = text.charCodeAt(at);
    const isSpace = char <= space;
    if (isSpace !== wasSpace) [runFrom, wasSpace] = [at, isSpace];
    else if (at - runFrom >= runCharsMax && !isLowSurrogate(char)) {
      stretches.push(text.slice(from, at));
      from = runFrom = at;
    }
  }
  stretches.push(text.slice(from));
  return stretches;
}

function isLowSurrogate(char: number): boolean {
  return char >= 0xdc00 && char <= 0xdfff;
}

/** Loads a tokenizer's tables, once. It takes about a third of a second, best spent before traffic. */
export function loadTokenizer(tokenizer: Tokenizer): Tiktoken {
  const loaded = encoders.get(tokenizer) ?? loadEncoder(tokenizer);
  encoders.set(tokenizer, loaded);
  return loaded;
}

function loadEncoder(tokenizer: Tokenizer): Tiktoken {
  const table = require(`tiktoken/encoders/${tokenizer}.json`) as {
    bpe_ranks: string;
    special_tokens: Record<string, number>;
    pat_str: string;
  };
  return new Tiktoken(table.bpe_ranks, table.special_tokens, table.pat_str);
}

const require = createRequire(import.meta.url);
const encoders = new Map<Tokenizer, Tiktoken>();
const bytesPerToken = 4;
/** What a chat template puts around a message; OpenAI's cookbook counts 3 to 4. */
const templateTokens = 4;
const foreignMargin = 1.25;
const space = 32;
const runCharsMax = 512;
