/** A draw keeps to what a grammar allows, whatever else is wished. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { applyChanges, type LogitChanges } from "./logit-changes.ts";
import { applyMask, argmaxAllowed, type Restriction, withMask } from "./masked-logits.ts";
import { argmax } from "./token-weights.ts";

const vocabSize = 70;
const tokens = Array.from({ length: vocabSize }, (_, token) => token);

function maskOf(allowed: readonly number[]): Int32Array {
  // Bits behind the vocabulary's end are set, as a grammar engine may leave them.
  const mask = new Int32Array(3);
  mask[2] = -1 << (vocabSize - 64);
  for (const token of allowed) mask[token >> 5]! |= 1 << (token & 31);
  return mask;
}

function applied(logits: Float32Array, { changes, mask }: Partial<Restriction>): Float32Array {
  const row = Float32Array.from(logits);
  if (changes) applyChanges(row, changes);
  if (mask) applyMask(row, mask);
  return row;
}

const logitsOf = fc
  .array(fc.integer({ min: -20, max: 20 }), { minLength: vocabSize, maxLength: vocabSize })
  .map((values) => Float32Array.from(values));

test("allowed tokens keep their wished logits and no other can be drawn", () => {
  const wish = fc.record({
    tokens: fc.uniqueArray(fc.nat({ max: vocabSize - 1 }), { maxLength: 6 }),
    value: fc.constantFrom(-Infinity, 3),
    others: fc.constantFrom("kept" as const, "banned" as const),
  });
  fc.assert(
    fc.property(
      logitsOf,
      fc.subarray(tokens, { minLength: 1 }),
      fc.option(wish),
      (logits, allowed, wished) => {
        const wishes: LogitChanges | undefined = wished
          ? { ...wished, values: wished.tokens.map(() => wished.value) }
          : undefined;
        const before = applied(logits, { changes: wishes });
        const wanted = before.map((logit, token) => (allowed.includes(token) ? logit : -Infinity));
        if (wanted.every((logit) => logit === -Infinity)) return;
        expect(applied(logits, withMask(logits, maskOf(allowed), [0], wishes))).toEqual(wanted);
      },
    ),
  );
});

test("the likeliest of those that are allowed is the one that a walk over all would find", () => {
  const many = 700;
  const values = fc.constantFrom(-Infinity, -2, 0, 0.5, 3, Number.NaN);
  fc.assert(
    fc.property(
      fc.array(values, { minLength: many, maxLength: many }),
      fc.array(fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }), { minLength: 22, maxLength: 22 }),
      (list, words) => {
        const logits = Float32Array.from(list);
        const mask = Int32Array.from(words);
        const peaks = Float32Array.from([0, 1, 2], (block) =>
          logits
            .subarray(256 * block, 256 * (block + 1))
            .reduce((most, logit) => (logit > most ? logit : most), -Infinity),
        );
        const expected = argmax(applied(logits, { mask }));
        const found = argmaxAllowed(logits, mask, peaks);
        expect(argmaxAllowed(logits, mask)).toBe(found);
        // Where nothing is left, a walk finds the first of what may not be drawn.
        if (found !== -1) expect(found).toBe(expected);
        else expect(applied(logits, { mask }).some((logit) => logit > -Infinity)).toBe(false);
      },
    ),
  );
});

test("an output that is complete ends, although more tokens were wished", () => {
  const noEnd: LogitChanges = { tokens: [0], values: [-Infinity], others: "kept" };
  const logits = new Float32Array(vocabSize).fill(1);
  const changes = withMask(logits, maskOf([0]), [0], noEnd);
  expect(applied(logits, changes)[0]).toBe(1);
  expect(applied(logits, changes).filter((logit) => logit !== -Infinity)).toHaveLength(1);
});

test("where no token goes on, the sequence fails by name", () => {
  const logits = new Float32Array(vocabSize);
  expect(() => withMask(logits, maskOf([]), [0], undefined)).toThrow(/No token/);
});
