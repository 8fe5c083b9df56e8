/**
 * What a request changes of the logits before a token is drawn: the few that it touches, so that nobody copies or
 * walks a whole vocabulary for them.
 */
import { HubError } from "../../sdk/protocol/errors.ts";
import type { TokenCounts } from "./token-counts.ts";

/** All of it optional but the penalty of 1, which changes nothing. */
export type LogitWishes = {
  /**
   * Divides the logits above zero, and multiplies those below, of tokens that prompt or output hold.
   * @see CTRL, arXiv:1909.05858 §4.1, over prompt and output as transformers and vLLM compute it
   */
  repetitionPenalty: number;
  /** Taken from a token's logit for each time that it was said. */
  frequencyPenalty?: number;
  /** Taken from a token's logit when it was said at all. */
  presencePenalty?: number;
  /** Added to tokens' logits; -100 bans, as OpenAI has it. */
  logitBias?: readonly (readonly [token: number, bias: number])[];
  /** No other token is drawn. */
  allowedTokens?: readonly number[];
  /** Runs of tokens that are not said; what leads up to the last one may be. */
  badWords?: readonly (readonly number[])[];
  /** Until so many tokens are said, none ends the sequence. */
  minTokens?: number;
};

/** Logits in place of the model's. */
export type LogitChanges = {
  tokens: readonly number[];
  values: readonly number[];
  /** Whether all other tokens are as the model has them, or are not to be drawn. */
  others: "kept" | "banned";
};

/** A sequence as its wishes see it. */
export type Said = {
  counts: TokenCounts;
  /** What it has said so far. */
  output: readonly number[];
  stopIds: readonly number[];
};

/**
 * In vLLM's order: what may not be drawn, then biases, then penalties.
 * @param logits `[vocabSize]`, left as they are
 * @returns nothing when no logit changes
 * @throws HubError `invalid_value` when no token is left
 */
export function logitChanges(
  logits: Float32Array,
  wishes: LogitWishes,
  { counts, output, stopIds }: Said,
): LogitChanges | undefined {
  const { allowedTokens, repetitionPenalty, frequencyPenalty = 0, presencePenalty = 0 } = wishes;
  const banned = bannedTokens(wishes, output, stopIds);
  const biases = new Map(wishes.logitBias);
  const isPlain = banned.size === 0 && biases.size === 0;
  const biased = (token: number) => {
    if (isPlain) return logits[token]!;
    const bias = biases.get(token) ?? 0;
    return banned.has(token) || bias <= biasOfBan ? -Infinity : logits[token]! + bias;
  };
  const repeated = (logit: number) =>
    logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty;
  const counted = (logit: number, times: number) =>
    repeated(logit) - frequencyPenalty * times - presencePenalty;

  const tokens: number[] = [];
  const values: number[] = [];
  const change = (token: number, value: number) => {
    tokens.push(token);
    values.push(value);
  };
  const penalizes = repetitionPenalty !== 1 || frequencyPenalty !== 0 || presencePenalty !== 0;
  const isSaid = (token: number) => penalizes && counts.output.has(token);
  const isRepeated = (token: number) => repetitionPenalty !== 1 && counts.prompt.has(token);
  const changeAny = (token: number) => {
    const times = counts.output.get(token);
    const logit = biased(token);
    if (times) change(token, counted(logit, times));
    else change(token, isRepeated(token) ? repeated(logit) : logit);
  };
  if (allowedTokens) {
    allowedTokens.forEach(changeAny);
  } else {
    // Each token once, whatever touches it; those that were said are many, so they come without a look-up more.
    if (penalizes) {
      for (const [token, times] of counts.output) change(token, counted(biased(token), times));
    }
    if (repetitionPenalty !== 1) {
      for (const token of counts.prompt) if (!isSaid(token)) change(token, repeated(biased(token)));
    }
    const others = new Set([...banned, ...biases.keys()]);
    for (const token of others) if (!isSaid(token) && !isRepeated(token)) changeAny(token);
  }
  if (tokens.length === 0) return undefined;
  const changes: LogitChanges = { tokens, values, others: allowedTokens ? "banned" : "kept" };
  refuseWhenNoneIsLeft(changes, logits.length);
  return changes;
}

/** What may not be said next: the ends of bad words that have begun, and what would end the sequence too early. */
function bannedTokens(
  { badWords = [], minTokens = 0 }: LogitWishes,
  output: readonly number[],
  stopIds: readonly number[],
): ReadonlySet<number> {
  const ends = badWords.filter((word) => isNext(word, output)).map((word) => word.at(-1)!);
  return new Set(output.length < minTokens ? [...ends, ...stopIds] : ends);
}

/** Whether there is anything to find out. */
export function wishesAnything(wishes: LogitWishes): boolean {
  const { repetitionPenalty, frequencyPenalty, presencePenalty, minTokens } = wishes;
  const { logitBias, allowedTokens, badWords } = wishes;
  const penalizes = repetitionPenalty !== 1 || frequencyPenalty || presencePenalty;
  return Boolean(penalizes || minTokens || logitBias || allowedTokens || badWords);
}

/** @param row `[vocabSize]` logits as the model gave them, which become those to draw from */
export function applyChanges(row: Float32Array, { tokens, values, others }: LogitChanges): void {
  if (others === "banned") row.fill(-Infinity);
  for (let i = 0; i < tokens.length; i++) row[tokens[i]!] = values[i]!;
}

/** Whether the output ends with all of a word but its last token. */
function isNext(word: readonly number[], output: readonly number[]): boolean {
  const start = output.length - word.length + 1;
  if (start < 0) return false;
  for (let i = 0; i < word.length - 1; i++) if (word[i] !== output[start + i]) return false;
  return true;
}

function refuseWhenNoneIsLeft({ tokens, values, others }: LogitChanges, vocabSize: number): void {
  if (others === "kept" && tokens.length < vocabSize) return;
  if (values.some((value) => value !== -Infinity)) return;
  throw new HubError(
    "invalid_value",
    "No token is left to choose: 'allowed_token_ids', 'logit_bias', 'bad_words' and 'min_tokens' together ban all of them.",
    { param: "allowed_token_ids" },
  );
}

const biasOfBan = -100;
