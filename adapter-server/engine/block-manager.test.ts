/** Blocks that are shared, found again and given up: whatever happens, each is accounted for. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { BlockManager } from "./block-manager.ts";

function manager(blocks = 9): BlockManager {
  return new BlockManager({ blocks, blockSize: 4 });
}

/** A sequence that takes what is cached of `names`, and computes the rest. */
function compute(blocks: BlockManager, id: number, names: string[]): number {
  const prefix = blocks.find(names);
  blocks.adopt(id, prefix);
  expect(blocks.grow(id, 4 * names.length)).toBe(true);
  blocks.publish(id, names, names.length);
  blocks.check();
  return prefix.blocks.length;
}

test("what one sequence computed another finds, while the first still runs and after its end", () => {
  const blocks = manager();
  expect(compute(blocks, 1, ["a", "ab", "abc"])).toBe(0);
  expect(compute(blocks, 2, ["a", "ab", "abd"])).toBe(2);
  expect(blocks.blocksOf(2).slice(0, 2)).toEqual(blocks.blocksOf(1).slice(0, 2));
  expect(blocks.used).toBe(4);
  blocks.release(1);
  expect(blocks.used).toBe(3);
  expect(blocks.find(["a", "ab", "abc"])).toMatchObject({ blocks: [1, 2, 3], idle: 1 });
  blocks.release(2);
  expect([blocks.used, blocks.free]).toEqual([0, 8]);
  blocks.check();
});

test("nothing is found of a block that was not published", () => {
  const blocks = manager();
  blocks.grow(1, 12);
  blocks.publish(1, ["a", "ab", "abc"], 1);
  expect(blocks.find(["a", "ab"]).blocks).toHaveLength(1);
  blocks.release(1);
  expect(blocks.find(["a", "ab"]).blocks).toHaveLength(1);
  blocks.check();
});

test("what was idle longest is given up first, the end of a sequence before its beginning", () => {
  const blocks = manager();
  compute(blocks, 1, ["a", "ab", "abc"]);
  compute(blocks, 2, ["x", "xy", "xyz"]);
  blocks.release(1);
  blocks.release(2);
  // Used again, so that the other one is older.
  compute(blocks, 3, ["a"]);
  blocks.release(3);
  blocks.grow(4, 4 * 5);
  blocks.check();
  expect(blocks.find(["a", "ab", "abc"]).blocks).toHaveLength(1);
  expect(blocks.find(["x", "xy", "xyz"]).blocks).toHaveLength(2);
});

test("blocks in use are never given up: a sequence that needs more than the rest gets none", () => {
  const blocks = manager();
  compute(blocks, 1, ["a", "ab", "abc"]);
  compute(blocks, 2, ["x", "xy"]);
  blocks.release(2);
  expect(blocks.grow(3, 4 * 6)).toBe(false);
  expect(blocks.blocksOf(3)).toEqual([]);
  expect(blocks.find(["x", "xy"]).blocks).toHaveLength(2);
  expect(blocks.grow(3, 4 * 5)).toBe(true);
  expect(blocks.find(["x", "xy"]).blocks).toHaveLength(0);
  blocks.check();
});

test("what two sequences computed side by side is kept once", () => {
  const blocks = manager();
  blocks.grow(1, 8);
  blocks.grow(2, 9);
  blocks.publish(1, ["a", "ab"], 2);
  const [, , last] = blocks.blocksOf(2);
  blocks.publish(2, ["a", "ab"], 2);
  blocks.check();
  expect(blocks.blocksOf(2)).toEqual([...blocks.blocksOf(1), last]);
  expect(blocks.used).toBe(3);
});

test("what a failed sequence computed is not found again, nor what others made from it", () => {
  const blocks = manager();
  compute(blocks, 1, ["a"]);
  compute(blocks, 2, ["a", "ab", "abc"]);
  blocks.release(2);
  compute(blocks, 3, ["a", "ab"]);
  blocks.discard(3);
  blocks.check();
  // The first is still used by another.
  expect(blocks.find(["a", "ab", "abc"]).blocks).toHaveLength(1);
  blocks.discard(1);
  blocks.check();
  expect(blocks.find(["a"]).blocks).toHaveLength(0);
  expect(blocks.free).toBe(8);
});

test("any run of uses leaves every block accounted for, and what is found is what was computed", () => {
  const letters = fc.array(fc.constantFrom("a", "b"), { minLength: 1, maxLength: 5 });
  const use = fc.record({
    id: fc.nat(4),
    names: letters.map((all) => all.map((_, index) => all.slice(0, index + 1).join(""))),
    end: fc.constantFrom("release", "discard"),
  });
  fc.assert(
    fc.property(fc.array(use, { maxLength: 40 }), fc.integer({ min: 4, max: 14 }), (uses, size) => {
      const blocks = manager(size);
      /** By block: the name under which it was computed last. */
      const contents = new Map<number, string>();
      const running = new Set<number>();
      for (const { id, names, end } of uses) {
        if (running.delete(id)) {
          blocks[end](id);
        } else {
          const prefix = blocks.find(names);
          expect(prefix.blocks.map((block) => contents.get(block))).toEqual(
            names.slice(0, prefix.blocks.length),
          );
          blocks.adopt(id, prefix);
          if (!blocks.grow(id, 4 * names.length)) {
            blocks.release(id);
            blocks.check();
            continue;
          }
          running.add(id);
          names.forEach((name, index) => {
            if (index < prefix.blocks.length) return;
            contents.set(blocks.blocksOf(id)[index]!, name);
            blocks.publish(id, names, index + 1);
          });
        }
        blocks.check();
      }
      for (const id of running) blocks.release(id);
      expect(blocks.used).toBe(0);
    }),
  );
});
