import { expect, test } from "vitest";
import { AdapterLabels, otherAdapters } from "./adapter-labels.ts";

const digest = (head: string) => head.padEnd(64, "0");

test("an adapter is called by its name, else by the head of its digest", () => {
  const names = new Map([[digest("a"), "support"]]);
  const labels = new AdapterLabels(8, (one) => names.get(one));
  expect(labels.bounded(digest("a"))).toBe("support");
  expect(labels.bounded(digest("b"))).toBe("sha256-b00000000000");
  names.clear();
  expect(labels.full(digest("a"))).toBe("sha256-a00000000000");
});

test("there are never more labels than allowed, and one for all the others", () => {
  const labels = new AdapterLabels(3, () => undefined);
  const seen = new Set<string>();
  for (let i = 0; i < 1000; i++) seen.add(labels.bounded(digest(`a${i}b`)));
  expect(seen.size).toBe(4);
  expect(seen).toContain(otherAdapters);
  // Those that have a series keep it.
  expect(labels.bounded(digest("a0b"))).toBe("sha256-a0b000000000");
});
