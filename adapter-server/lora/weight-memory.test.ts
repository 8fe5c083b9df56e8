import fc from "fast-check";
import { expect, test } from "vitest";
import { WeightMemory } from "./weight-memory.ts";

test("memory is large enough, hardly larger, and never given to two", () => {
  const action = fc.record({ bytes: fc.integer({ min: 1, max: 4 << 20 }), give: fc.nat(9) });
  fc.assert(
    fc.property(fc.array(action, { maxLength: 30 }), (actions) => {
      const memory = new WeightMemory(2 << 20);
      const taken: SharedArrayBuffer[] = [];
      for (const { bytes, give } of actions) {
        const buffer = memory.take(bytes);
        expect(buffer.byteLength).toBeGreaterThanOrEqual(bytes);
        expect(buffer.byteLength).toBeLessThanOrEqual(Math.max(4096, bytes * 1.125 + 4096));
        expect(taken).not.toContain(buffer);
        taken.push(buffer);
        const [given] = give < taken.length ? taken.splice(give, 1) : [];
        if (given) memory.give(given);
        expect(memory.keptBytes).toBeLessThanOrEqual(2 << 20);
      }
    }),
  );
});

test("adapters of about one size use the same memory one after the other", () => {
  const memory = new WeightMemory(64 << 20);
  const first = memory.take(20_000_000);
  memory.give(first);
  expect(memory.take(19_900_000)).toBe(first);
  expect(memory.take(19_900_000)).not.toBe(first);
});
