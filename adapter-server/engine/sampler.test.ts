/** The sampler against its definition, and its random numbers against the published vectors. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { philox, uniform } from "./philox.ts";
import type { Sampling } from "./sampler.ts";
import { Sampler } from "./sampler.ts";

const greedy: Sampling = {
  temperature: 0,
  topP: 1,
  topK: 0,
  repetitionPenalty: 1,
  seed: 1,
  stream: 0,
};

test("philox gives the known answers of the Random123 library", () => {
  // Random123 1.14, tests/kat_vectors, philox4x32 10: counter, key, expected.
  const vectors = [
    [
      "00000000 00000000 00000000 00000000",
      "00000000 00000000",
      "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    ],
    [
      "ffffffff ffffffff ffffffff ffffffff",
      "ffffffff ffffffff",
      "408f276d 41c83b0e a20bc7c6 6d5451fd",
    ],
    [
      "243f6a88 85a308d3 13198a2e 03707344",
      "a4093822 299f31d0",
      "d16cfe09 94fdcceb 5001e420 24126ea1",
    ],
  ];
  const words = (text = "") =>
    Uint32Array.from(text.split(" "), (word) => Number.parseInt(word, 16));
  for (const [counter, key, expected] of vectors) {
    const [key0 = 0, key1 = 0] = words(key);
    const out = new Uint32Array(4);
    philox(out, words(counter), key0, key1);
    expect(out).toEqual(words(expected));
  }
});

test("draws of neighbouring positions, streams and seeds have nothing in common", () => {
  const draws = [
    uniform(1, 0, 5),
    uniform(1, 0, 6),
    uniform(1, 1, 5),
    uniform(2, 0, 5),
    uniform(1 + 2 ** 40, 0, 5),
  ];
  expect(new Set(draws).size).toBe(draws.length);
  const mean =
    Array.from({ length: 20_000 }, (_, i) => uniform(7, 0, i)).reduce((a, b) => a + b) / 20_000;
  expect(mean).toBeGreaterThan(0.49);
  expect(mean).toBeLessThan(0.51);
});

test("temperature 0 takes the largest logit, the lower token of two equal ones", () => {
  const sampler = new Sampler(4);
  expect(sampler.sample(Float32Array.of(1, 3, 3, -2), greedy, 0)).toBe(1);
  // A model's own settings may say anything.
  for (const topP of [0, -1]) {
    const warm = { ...greedy, temperature: 1, topP };
    expect(sampler.sample(Float32Array.of(1, 2, 3, -2), warm, 0)).toBe(2);
  }
});

test("logits with NaN or infinity are refused, whichever way tokens are chosen", () => {
  const sampler = new Sampler(3);
  const warm = { ...greedy, temperature: 1 };
  expect(() =>
    sampler.sample(Float32Array.of(Number.NaN, Number.NaN, Number.NaN), greedy, 0),
  ).toThrow("finite");
  expect(() => sampler.sample(Float32Array.of(1, Number.POSITIVE_INFINITY, 2), greedy, 0)).toThrow(
    "finite",
  );
  expect(() => sampler.sample(Float32Array.of(1, Number.NaN, 2), warm, 0)).toThrow("finite");
});

const logitsOf = fc.array(fc.float({ min: -8, max: 8, noNaN: true }), {
  minLength: 1,
  maxLength: 60,
});

test("a draw from the likeliest is the one that sorting all tokens gives", () => {
  fc.assert(
    fc.property(
      logitsOf,
      fc.double({ min: 0.01, max: 0.99, noNaN: true }),
      fc.double({ min: 0.2, max: 2, noNaN: true }),
      fc.nat(),
      fc.integer({ min: 0, max: 70 }),
      fc.oneof(fc.constant(0), fc.double({ min: 0, max: 1, noNaN: true })),
      (values, topP, temperature, position, topK, minP) => {
        const logits = Float32Array.from(values);
        const sampling = {
          ...{ temperature, topP, topK, minP, repetitionPenalty: 1 },
          ...{ seed: 3, stream: 0 },
        };
        const sampled = new Sampler(logits.length).sample(logits, sampling, position);
        expect(sampled).toBe(sampleBySorting(logits, sampling, position));
      },
    ),
  );
});

test("a request's tokens come with the probabilities of the softmax", () => {
  const logits = Float32Array.from([0.25, 0.5, 0.125, 0.125], Math.log);
  const sampler = new Sampler(4);
  const counts = [0, 0, 0, 0];
  const draws = 20_000;
  for (let i = 0; i < draws; i++) {
    const token = sampler.sample(
      logits,
      { temperature: 1, topP: 1, topK: 0, repetitionPenalty: 1, seed: 11, stream: 0 },
      i,
    );
    counts[token] = (counts[token] ?? 0) + 1;
  }
  for (const [token, share] of [0.25, 0.5, 0.125, 0.125].entries()) {
    // Four standard deviations of a binomial share, with a fixed seed.
    const tolerance = 4 * Math.sqrt((share * (1 - share)) / draws);
    expect(Math.abs(counts[token]! / draws - share)).toBeLessThan(tolerance);
  }
});

test("sampling leaves the logits as they were, and a second time gives the same token", () => {
  const logits = Float32Array.of(0.3, 0.1, -2, 0.2);
  const before = logits.slice();
  const sampler = new Sampler(4);
  const sampling = {
    temperature: 1.3,
    topP: 0.9,
    topK: 0,
    repetitionPenalty: 1,
    seed: 5,
    stream: 2,
  };
  const first = sampler.sample(logits, sampling, 40);
  sampler.sample(Float32Array.of(9, 0, 0, 0), sampling, 41);
  expect(sampler.sample(logits, sampling, 40)).toBe(first);
  expect(logits).toEqual(before);
});

/**
 * The definition: sort by weight, leave out those below `minP` of the first, keep the first `topK`, of these the
 * shortest head with `topP` of the mass.
 */
function sampleBySorting(logits: Float32Array, sampling: Sampling, position: number): number {
  const max = Math.max(...logits);
  const weights = Float32Array.from(logits, (logit) =>
    Math.exp((logit - max) / sampling.temperature),
  );
  const least = (sampling.minP ?? 0) * Math.max(...weights);
  const sorted = [...weights.keys()]
    .filter((token) => weights[token]! >= least)
    .sort((a, b) => weights[b]! - weights[a]! || a - b);
  const order = sampling.topK > 0 ? sorted.slice(0, sampling.topK) : sorted;
  // Summed in the order in which the sampler sums, so that not even the last bit differs.
  const summed = sampling.topK > 0 ? order : order.toSorted((a, b) => a - b);
  const total = summed.reduce((sum, token) => sum + weights[token]!, 0);
  let mass = 0;
  const head: number[] = [];
  for (const token of order) {
    if (mass >= sampling.topP * total) break;
    head.push(token);
    mass += weights[token]!;
  }
  let rest = uniform(sampling.seed, sampling.stream, position) * mass;
  for (const token of head) {
    rest -= weights[token]!;
    if (rest < 0) return token;
  }
  return order[0]!;
}
