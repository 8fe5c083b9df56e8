/** Changed logits against their definition over the whole vocabulary, and choices made of them. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { slowlyChanged } from "./__fixtures__/slow-logit-changes.ts";
import { applyChanges, type LogitWishes, logitChanges } from "./logit-changes.ts";
import { Sampler, type Sampling } from "./sampler.ts";
import { SimulatedRunner } from "./simulated-runner.ts";
import { TokenChooser } from "./token-chooser.ts";
import { TokenCounts } from "./token-counts.ts";

const vocabSize = 12;
const token = fc.nat({ max: vocabSize - 1 });
const tokens = fc.array(token, { maxLength: 10 });
const penalty = fc.double({ min: -2, max: 2, noNaN: true });

const wishes = fc.record<LogitWishes, "repetitionPenalty">(
  {
    repetitionPenalty: fc.oneof(fc.constant(1), fc.double({ min: 0.5, max: 2, noNaN: true })),
    frequencyPenalty: penalty,
    presencePenalty: penalty,
    logitBias: fc.uniqueArray(
      fc.tuple(token, fc.oneof(fc.constant(-100), fc.integer({ min: -99, max: 100 }))),
      { selector: ([id]) => id },
    ),
    allowedTokens: fc.uniqueArray(token, { minLength: 1 }),
    badWords: fc.array(fc.array(token, { minLength: 1, maxLength: 3 }), { maxLength: 4 }),
    minTokens: fc.nat({ max: 12 }),
  },
  { requiredKeys: ["repetitionPenalty"] },
);

const situation = fc.record({
  logits: fc
    .array(fc.float({ min: -8, max: 8, noNaN: true }), {
      minLength: vocabSize,
      maxLength: vocabSize,
    })
    .map((values) => Float32Array.from(values)),
  wishes,
  prompt: tokens,
  output: tokens,
  stopIds: fc.uniqueArray(token, { maxLength: 3 }),
});

test("only what is touched changes, to what the definition says of the whole vocabulary", () => {
  fc.assert(
    fc.property(
      situation,
      fc.nat({ max: 10 }),
      ({ logits, wishes, prompt, output, stopIds }, cut) => {
        const expected = slowlyChanged(logits, wishes, { prompt, output, stopIds });
        const counts = new TokenCounts();
        // Part of the output was taken up before, the rest is only supposed.
        const known = [...prompt, ...output.slice(0, cut)];
        counts.take(known.slice(0, 3), prompt.length);
        counts.take(known, prompt.length);
        const compute = () => {
          const changes = logitChanges(logits, wishes, { counts, output, stopIds });
          const row = logits.slice();
          if (changes) applyChanges(row, changes);
          // -0 is 0.
          return row.map((value) => value + 0);
        };
        const before = logits.slice();
        if (expected.every((value) => value === -Infinity)) {
          expect(() => counts.supposing(output.slice(cut), compute)).toThrow("No token is left");
        } else {
          expect(counts.supposing(output.slice(cut), compute)).toEqual(
            expected.map((value) => value + 0),
          );
        }
        expect(logits).toEqual(before);
      },
    ),
    { numRuns: 500 },
  );
});

test("what was supposed is forgotten again", () => {
  const counts = new TokenCounts();
  counts.take([1, 2, 2], 1);
  counts.supposing([2, 3, 1], () => {
    expect([...counts.output]).toEqual([
      [2, 3],
      [3, 1],
      [1, 1],
    ]);
  });
  expect([...counts.output]).toEqual([[2, 2]]);
  expect([...counts.prompt]).toEqual([1]);
});

test("a token is drawn from the changed logits, and told as likely as the model found it", async () => {
  await fc.assert(
    fc.asyncProperty(
      situation,
      fc.constantFrom(0, 0.7, 1),
      fc.nat({ max: 10 }),
      async (one, temperature, cut) => {
        const { logits, prompt, output, stopIds } = one;
        const sampling: Sampling = {
          ...one.wishes,
          temperature,
          topP: 0.9,
          topK: 0,
          minP: 0.05,
          seed: 4,
          stream: 1,
        };
        const changed = slowlyChanged(logits, one.wishes, { prompt, output, stopIds });
        fc.pre(changed.some((value) => value > -Infinity));
        const position = prompt.length + output.length;
        const expected = new Sampler(vocabSize).sample(changed, sampling, position);

        const said = output.slice(cut);
        const sequence = {
          prompt,
          tokens: [...prompt, ...output.slice(0, cut)],
          sampling,
          stopIds,
          logprobs: 2,
        };
        const chooser = new TokenChooser(new SimulatedRunner({ vocabSize }), () => sequence);
        await chooser.prepare([{ sequenceId: 1, logits, said }]);
        const chosen = chooser.choose(1, logits, said);
        expect(chosen?.token).toBe(expected);
        const total = logits.reduce((sum, logit) => sum + Math.exp(logit), 0);
        expect(chosen?.logprobs?.logprob).toBeCloseTo(logits[expected]! - Math.log(total), 4);
      },
    ),
  );
});

test("a row that leaves no token fails alone, and says what to change", async () => {
  const logits = Float32Array.of(1, 2, 3);
  const other = Float32Array.of(3, 2, 1);
  const plain: Sampling = {
    temperature: 0,
    topP: 1,
    topK: 0,
    repetitionPenalty: 1,
    seed: 1,
    stream: 0,
  };
  const ofNothing: Sampling = { ...plain, allowedTokens: [2], logitBias: [[2, -100]] };
  const chooser = new TokenChooser(new SimulatedRunner({ vocabSize: 3 }), (id) => ({
    ...{ prompt: [], tokens: [], stopIds: [], logprobs: undefined },
    sampling: id === 1 ? ofNothing : plain,
  }));
  await chooser.prepare([
    { sequenceId: 1, logits, said: [] },
    { sequenceId: 2, logits: other, said: [] },
  ]);
  expect(() => chooser.choose(1, logits, [])).toThrow("'allowed_token_ids'");
  expect(chooser.choose(2, other, [])).toEqual({ token: 0 });
});
