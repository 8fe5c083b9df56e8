import fc from "fast-check";
import { expect, test } from "vitest";
import { logprobsOf } from "./logprobs.ts";
import { emptyWeights, weigh } from "./token-weights.ts";

test("log-probabilities and the likeliest tokens are those of the definition, ties in the order of ids", () => {
  const logit = fc.oneof(
    fc.integer({ min: -3, max: 3 }),
    fc.float({ min: -50, max: 50, noNaN: true }),
  );
  fc.assert(
    fc.property(
      fc.array(logit, { minLength: 1, maxLength: 40 }),
      fc.nat(50),
      fc.nat(20),
      (values, pick, count) => {
        const logits = Float32Array.from(values);
        const token = pick % logits.length;
        const sum = logits.reduce((total, value) => total + Math.exp(value), 0);
        const expected = [...logits].map((value) => value - Math.log(sum));
        const order = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]! || a - b);
        const { logprob, top } = logprobsOf(logits, weightsOf(logits), { token, count });
        expect(logprob).toBeCloseTo(expected[token]!, 4);
        expect(top.map((one) => one.token)).toEqual(order.slice(0, count));
        for (const one of top) expect(one.logprob).toBeCloseTo(expected[one.token]!, 4);
      },
    ),
  );
});

test("a token that cannot be has a number all the same, which JSON can write", () => {
  const logits = Float32Array.of(1, Number.NEGATIVE_INFINITY);
  expect(logprobsOf(logits, weightsOf(logits), { token: 1, count: 0 })).toEqual({
    logprob: -9999,
    top: [],
  });
});

test("where one logit is not a number no token has a probability, and none is told", () => {
  const logits = Float32Array.of(1, Number.NaN, 3);
  const weights = emptyWeights(3);
  weigh(weights, logits, { max: 3, temperature: 1 });
  expect(() => logprobsOf(logits, weights, { token: 2, count: 2 })).toThrow("finite");
});

function weightsOf(logits: Float32Array) {
  const weights = emptyWeights(logits.length);
  weigh(weights, logits, { max: Math.max(...logits), temperature: 1 });
  return weights;
}
