/** Many texts of one request hold up nobody else for long. */
import { expect, test } from "vitest";
import { readWithPauses } from "./pauses.ts";

test("others have a turn while many texts are read, and each is read once, in its order", async () => {
  let ms = 0;
  let turns = 0;
  const others = () => {
    turns++;
    if (ms < 1_000) setImmediate(others);
  };
  setImmediate(others);
  const items = Array.from({ length: 100 }, (_, index) => index);
  const read = (item: number, index: number) => {
    ms += 4;
    return [item, index, turns];
  };
  const results = await readWithPauses(items, read, () => ms);
  ms = 1_000;
  expect(results.map(([item, index]) => [item, index])).toEqual(items.map((one) => [one, one]));
  // Twelve milliseconds of each turn are three texts.
  expect(results.at(-1)?.[2]).toBeGreaterThanOrEqual(30);
});

test("what cannot be read ends the reading", async () => {
  const read = (item: number) => {
    if (item === 2) throw new Error("no tokens");
    return item;
  };
  await expect(readWithPauses([1, 2, 3], read, () => 0)).rejects.toThrow("no tokens");
});
