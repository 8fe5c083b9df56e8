/** Who gets which slot: by worth, never a pinned one's, never one in use. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { SlotTable } from "./slot-table.ts";

/** Uses an adapter once; nobody may be in the way. */
function touch(table: SlotTable, digest: string): void {
  table.release(table.acquire(digest).slot);
}

test("the adapter that was used least makes way, the longest unused where they are alike", () => {
  const table = new SlotTable(3);
  for (const digest of ["a", "b", "c", "a", "a"]) touch(table, digest);
  touch(table, "d");
  expect(table.residents()).toEqual(["a", "d", "c"]);
  touch(table, "e");
  expect(table.residents()).toEqual(["a", "d", "e"]);
  expect(table.takeEvicted()).toEqual(["b", "c"]);
  expect(table.takeEvicted()).toEqual([]);
});

test("one that costs more to bring back stays longer", () => {
  const table = new SlotTable(2, (digest) => (digest === "large" ? 100 : 1));
  for (const digest of ["large", "small", "new"]) touch(table, digest);
  expect(table.residents()).toEqual(["large", "new"]);
});

test("a pinned adapter keeps its slot, and nobody is promised it", () => {
  const table = new SlotTable(2);
  table.pin("a", true);
  touch(table, "a");
  for (const digest of ["b", "c", "d"]) touch(table, digest);
  expect(table.residents()).toEqual(["a", "d"]);
  expect(table.unpromised()).toEqual([2]);
  table.pin("a", false);
  expect(table.unpromised()).toEqual([1, 2]);
  table.promise(1, "e");
  table.pin("a", true);
  expect(table.isPromisedTo("e")).toBe(false);
  table.unload("a");
  expect(table.residents()).toEqual([undefined, "d"]);
});

test("whatever is acquired, released, pinned and unloaded, slots and users agree", () => {
  const digest = fc.constantFrom("a", "b", "c", "d", "e", "f");
  const action = fc.oneof(
    fc.record({ type: fc.constantFrom("acquire", "unload"), digest, nth: fc.nat(9) }),
    fc.record({ type: fc.constantFrom("release", "promise"), digest, nth: fc.nat(9) }),
    fc.record({ type: fc.constant("pin"), digest: fc.constantFrom("a", "b"), nth: fc.nat(9) }),
  );
  fc.assert(
    fc.property(fc.array(action, { maxLength: 80 }), (actions) => {
      const table = new SlotTable(3);
      const users: number[] = [];
      const pinned = new Set<string>();
      for (const { type, digest, nth } of actions) {
        const before = table.residents();
        if (type === "acquire") {
          if (!table.isFreeFor(digest)) continue;
          const { slot } = table.acquire(digest);
          users.push(slot);
          expect(table.digestOf(slot)).toBe(digest);
        } else if (type === "release") {
          const [slot] = users.splice(nth % Math.max(1, users.length), 1);
          if (slot !== undefined) table.release(slot);
        } else if (type === "promise") {
          const [slot] = table.unpromised();
          if (slot !== undefined && !table.isPromisedTo(digest)) table.promise(slot, digest);
        } else if (type === "pin") {
          table.pin(digest, nth > 4);
          if (nth > 4) pinned.add(digest);
          else pinned.delete(digest);
        } else if (!users.some((slot) => table.digestOf(slot) === digest)) {
          table.unload(digest);
        }
        table.check((slot) => users.filter((used) => used === slot).length);
        for (const kept of before) {
          const mustStay = kept !== undefined && pinned.has(kept);
          if (mustStay && type !== "unload") expect(table.residents()).toContain(kept);
        }
      }
      // Nobody is left out for ever: without users and promises, everybody gets a slot.
      for (const slot of users) table.release(slot);
      table.keepPromises(() => false);
      expect(table.isFreeFor("z")).toBe(true);
    }),
  );
});
