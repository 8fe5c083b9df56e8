/** The definition that `logit-changes.ts` is tested against: over the whole vocabulary, one wish after the other. */
import type { LogitWishes } from "../logit-changes.ts";

/** As vLLM's sampler has it: allowed tokens, bad words, least tokens, biases, then penalties. */
export function slowlyChanged(
  logits: Float32Array,
  wishes: LogitWishes,
  {
    prompt,
    output,
    stopIds,
  }: { prompt: readonly number[]; output: readonly number[]; stopIds: readonly number[] },
): Float32Array {
  const changed = Float64Array.from(logits);
  const each = (change: (logit: number, token: number) => number) => {
    for (const token of changed.keys()) changed[token] = change(changed[token]!, token);
  };
  const { allowedTokens, badWords = [], minTokens = 0, logitBias = [] } = wishes;
  if (allowedTokens) each((logit, token) => (allowedTokens.includes(token) ? logit : -Infinity));
  for (const word of badWords) {
    const before = word.slice(0, -1);
    const ends = before.length <= output.length && before.every((token, i) => token === output[output.length - before.length + i]);
    if (ends) each((logit, token) => (token === word.at(-1) ? -Infinity : logit));
  }
  if (output.length < minTokens) {
    each((logit, token) => (stopIds.includes(token) ? -Infinity : logit));
  }
  const biases = new Map(logitBias);
  each((logit, token) => (biases.get(token) === -100 ? -Infinity : logit + (biases.get(token) ?? 0)));
  const { repetitionPenalty, frequencyPenalty = 0, presencePenalty = 0 } = wishes;
  each((logit, token) => {
    if (!prompt.includes(token) && !output.includes(token)) return logit;
    return logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty;
  });
  each((logit, token) => logit - frequencyPenalty * output.filter((said) => said === token).length);
  each((logit, token) => logit - (output.includes(token) ? presencePenalty : 0));
  return Float32Array.from(changed);
}
