/** Bounds on numbers hold, on both sides and to the last digit. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { accepts } from "./__fixtures__/accepts.ts";
import { newGrammarText } from "./__fixtures__/grammar-text.ts";
import { type Bounds, decimalsWithin, integersWithin } from "./number-range.ts";

const within = (value: number, { min, max }: Bounds) =>
  (!min || (min.exclusive ? value > min.value : value >= min.value)) &&
  (!max || (max.exclusive ? value < max.value : value <= max.value));

const boundsOf = (value: fc.Arbitrary<number>): fc.Arbitrary<Bounds> => {
  const bound = fc.option(fc.record({ value, exclusive: fc.boolean() }), { nil: undefined });
  return fc.record({ min: bound, max: bound });
};
const tenths = fc.integer({ min: -2500, max: 2500 }).map((value) => value / 100);

test("an integer is taken when it lies between the bounds, and only then", async () => {
  await fc.assert(
    fc.asyncProperty(
      boundsOf(fc.integer({ min: -1200, max: 1200 })),
      fc.array(fc.integer({ min: -1500, max: 1500 }), { minLength: 1, maxLength: 30 }),
      async (bounds, values) => {
        const around = [bounds.min?.value, bounds.max?.value].flatMap((value) =>
          value === undefined ? [] : [value - 1, value, value + 1],
        );
        const all = [...values, ...around];
        const text = newGrammarText();
        const expression = integersWithin(text, bounds);
        if (expression === undefined) {
          expect(all.filter((value) => within(value, bounds))).toEqual([]);
          return;
        }
        const taken = await accepts(text.grammar(expression), all.map(String));
        expect(taken).toEqual(all.map((value) => within(value, bounds)));
      },
    ),
    { numRuns: 60 },
  );
});

test("a decimal is taken when it lies between the bounds, and only then", async () => {
  await fc.assert(
    fc.asyncProperty(
      boundsOf(tenths),
      fc.array(fc.tuple(tenths, fc.constantFrom("", "0", "00", "1", "9")), {
        minLength: 1,
        maxLength: 30,
      }),
      async (bounds, values) => {
        const texts = values.map(([value, more]) => {
          const text = String(value);
          return more === "" ? text : `${text}${text.includes(".") ? "" : "."}${more}`;
        });
        const around = [bounds.min?.value, bounds.max?.value].flatMap((value) =>
          value === undefined ? [] : [String(value)],
        );
        const all = [...texts, ...around, "0", "-0", "0.0"];
        const text = newGrammarText();
        const expression = decimalsWithin(text, bounds);
        if (expression === undefined) {
          // Between bounds that leave room for decimals there are always some.
          expect((bounds.max?.value ?? 0) - (bounds.min?.value ?? 0)).toBeLessThanOrEqual(0);
          return;
        }
        const taken = await accepts(text.grammar(expression), all);
        const wanted = all.map((text) => within(Number(text), bounds));
        expect(all.filter((_, index) => taken[index] && !wanted[index])).toEqual([]);
        // "-0" need not be written.
        expect(
          all.filter((text, index) => !taken[index] && wanted[index] && Number(text) !== 0),
        ).toEqual([]);
      },
    ),
    { numRuns: 100 },
  );
});
