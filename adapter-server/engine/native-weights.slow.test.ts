import fc from "fast-check";
import { expect, test } from "vitest";
import { NativeWeights } from "./native-weights.ts";
import { SimulatedRunner } from "./simulated-runner.ts";
import { TokenChooser } from "./token-chooser.ts";
import { emptyWeights, totalOf, weigh } from "./token-weights.ts";

test.each([3, 256, 700])(
  "weights are those of the definition, row by row, over %d tokens",
  async (size) => {
    const native = await NativeWeights.open(size, 2);
    const row = fc.record({
      logits: fc.float32Array({ minLength: size, maxLength: size, min: -60, max: 60, noNaN: true }),
      temperature: fc.float({ min: 0.25, max: 2, noNaN: true }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(row, { minLength: 1, maxLength: 5 }), async (rows) => {
        const weighed = await native.weigh(rows);
        for (const [index, { logits, temperature }] of rows.entries()) {
          const expected = emptyWeights(size);
          weigh(expected, logits, { max: Math.max(...logits), temperature });
          const total = totalOf(expected);
          const { weights, masses, peaks } = weighed[index]!;
          for (const [part, own] of [
            [weights, expected.weights],
            [masses, expected.masses],
            [peaks, expected.peaks],
          ] as const) {
            expect(part.length).toBe(own.length);
            for (const [i, value] of part.entries()) expect(value).toBeCloseTo(own[i]! / total, 5);
          }
        }
        const [first] = rows;
        const [alone] = await native.weigh([first!]);
        expect(weighed[0]!.weights.every((value, i) => value === alone!.weights[i])).toBe(true);
      }),
      { numRuns: 30 },
    );
    await native.close();
  },
);

test("what is not a number shows in the total of its row, and in no other", async () => {
  const native = await NativeWeights.open(3, 1);
  const [bad, good] = await native.weigh([
    { logits: Float32Array.of(1, Number.NaN, 2), temperature: 1 },
    { logits: Float32Array.of(1, 2, 3), temperature: 1 },
  ]);
  expect(totalOf(bad!)).toBeNaN();
  expect(totalOf(good!)).toBeCloseTo(1, 5);
  await native.close();
});

test("a token is chosen at every temperature that a request may ask for, next to 0 the likeliest", async () => {
  const native = await NativeWeights.open(3, 1);
  const runner = Object.assign(new SimulatedRunner({ vocabSize: 3 }), {
    weigh: (rows: Parameters<NativeWeights["weigh"]>[0]) => native.weigh(rows),
  });
  for (const temperature of [Number.MIN_VALUE, 1e-38, 1e-6, 1e-5, 1e-3]) {
    const sampling = { temperature, topP: 1, topK: 0, repetitionPenalty: 1, seed: 1, stream: 0 };
    const sequence = { sampling, logprobs: undefined, prompt: [], tokens: [], stopIds: [] };
    const chooser = new TokenChooser(runner, () => sequence);
    const logits = Float32Array.of(20, 30, -400);
    await chooser.prepare([{ sequenceId: 1, logits, said: [] }]);
    expect(chooser.choose(1, logits, []), `${temperature}`).toEqual({ token: 1 });
  }
  await native.close();
});
