/** How likely the model found a token, and which ones it found likeliest: before temperature and penalties. */

export type TokenLogprobs = {
  /** Of the token that was chosen. */
  logprob: number;
  /** The likeliest tokens, the first of them first. */
  top: { token: number; logprob: number }[];
};

/**
 * @param logits `[vocabSize]` as the model gave them
 * @param count  how many of the likeliest to tell
 */
export function logprobsOf(
  logits: Float32Array,
  { token, count }: { token: number; count: number },
): TokenLogprobs {
  const top: number[] = [];
  let largest = Number.NEGATIVE_INFINITY;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id]!;
    largest = Math.max(largest, logit);
    if (top.length === count && (count === 0 || logit <= logits[top[count - 1]!]!)) continue;
    // Of equals the lower token stays first.
    let place = top.length;
    while (place > 0 && logits[top[place - 1]!]! < logit) place--;
    top.splice(place, 0, id);
    if (top.length > count) top.pop();
  }
  let sum = 0;
  for (let id = 0; id < logits.length; id++) sum += Math.exp(logits[id]! - largest);
  const normalizer = largest + Math.log(sum);
  // JSON has no infinity; this is what OpenAI writes for the least likely of tokens.
  const logprob = (id: number) => Math.max(logprobMin, logits[id]! - normalizer);
  return { logprob: logprob(token), top: top.map((id) => ({ token: id, logprob: logprob(id) })) };
}

const logprobMin = -9999;
