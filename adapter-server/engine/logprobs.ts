/** How likely the model found a token, and which ones it found likeliest: before temperature and penalties. */
import { invariant } from "../../sdk/protocol/errors.ts";
import { blockTokens } from "../models/token-blocks.ts";
import { type TokenWeights, tokensFrom, totalOf, weightOfAbout } from "./token-weights.ts";

export type TokenLogprobs = {
  /** Of the token that was chosen. */
  logprob: number;
  /** The likeliest tokens, the first of them first. */
  top: { token: number; logprob: number }[];
};

/** Of a token of the prompt. */
export type PromptLogprobs = TokenLogprobs & {
  token: number;
  /** 1 for the likeliest of all. */
  rank: number;
};

/**
 * @param logits  `[vocabSize]` as the model gave them
 * @param weights of the tokens at temperature 1
 * @param count   how many of the likeliest to tell
 * @throws Error when one of the logits is not a number, since then no token has a probability
 */
export function logprobsOf(
  logits: Float32Array,
  weights: TokenWeights,
  { token, count }: { token: number; count: number },
): TokenLogprobs {
  const total = totalOf(weights);
  invariant(Number.isFinite(total), "the logits are finite");
  const likeliest = heaviest(logits, weights, Math.max(1, count));
  const [best = 0] = likeliest;
  // Weights are proportional to likelihoods, and the best one's is never too small to be a number.
  const normalizer = logits[best]! - Math.log(weights.weights[best]! / total);
  // JSON has no infinity; this is what OpenAI writes for the least likely of tokens.
  const logprob = (id: number) => Math.max(logprobMin, logits[id]! - normalizer);
  const top = likeliest.slice(0, count).map((id) => ({ token: id, logprob: logprob(id) }));
  return { logprob: logprob(token), top };
}

/** How many tokens are as likely or likelier, the token itself included. */
export function rankOf(
  logits: Float32Array,
  { weights, peaks }: TokenWeights,
  token: number,
): number {
  const logit = logits[token]!;
  let rank = 0;
  for (let block = 0; block < peaks.length; block++) {
    if (peaks[block]! < weights[token]!) continue;
    const end = Math.min((block + 1) * blockTokens, logits.length);
    for (let i = block * blockTokens; i < end; i++) if (logits[i]! >= logit) rank++;
  }
  return rank;
}

/** Of equals the lower token comes first. Different logits may weigh the same, so logits decide. */
function heaviest(logits: Float32Array, weights: TokenWeights, count: number): number[] {
  if (found.length < logits.length) found = new Int32Array(logits.length);
  const size = tokensFrom(weights, weightOfAbout(weights, count) * almostOne, found);
  return [...found.subarray(0, size)]
    .sort((a, b) => logits[b]! - logits[a]! || a - b)
    .slice(0, count);
}

/** Room that is used again and again: scoring a prompt asks for the heaviest of every token. */
let found = new Int32Array();
const logprobMin = -9999;
/** Less than what rounding makes of equal weights. */
const almostOne = 1 - 1e-6;
