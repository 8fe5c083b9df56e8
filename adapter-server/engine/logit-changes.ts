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
  const { allowedTokens, badWords = [], logitBias = [], minTokens = 0 } = wishes;
  const { repetitionPenalty, frequencyPenalty = 0, presencePenalty = 0 } = wishes;
  const changed = new Map<number, number>();
  for (const token of allowedTokens ?? []) changed.set(token, logits[token]!);
  const set = (token: number, change: (logit: number) => number) => {
    const before = changed.get(token);
    if (allowedTokens && before === undefined) return;
    changed.set(token, change(before ?? logits[token]!));
  };
  const ban = (token: number) => set(token, () => -Infinity);

  for (const word of badWords) if (isNext(word, output)) ban(word.at(-1)!);
  if (output.length < minTokens) stopIds.forEach(ban);
  for (const [token, bias] of logitBias) {
    set(token, (logit) => (bias <= biasOfBan ? -Infinity : logit + bias));
  }
  if (repetitionPenalty !== 1) {
    const penalize = (token: number) =>
      set(token, (logit) => (logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty));
    for (const token of counts.prompt) penalize(token);
    for (const token of counts.output.keys()) if (!counts.prompt.has(token)) penalize(token);
  }
  if (frequencyPenalty !== 0 || presencePenalty !== 0) {
    for (const [token, times] of counts.output) {
      set(token, (logit) => logit - frequencyPenalty * times - presencePenalty);
    }
  }
  if (changed.size === 0) return undefined;
  const changes: LogitChanges = {
    tokens: [...changed.keys()],
    values: [...changed.values()],
    others: allowedTokens ? "banned" : "kept",
  };
  refuseWhenNoneIsLeft(changes, logits.length);
  return changes;
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
