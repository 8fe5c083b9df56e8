import { expect, test } from "vitest";
import { merge } from "./merge.ts";

async function* numbers(values: readonly number[]) {
  for (const value of values) {
    await Promise.resolve();
    yield value;
  }
}

test("items of all come, those of one in their order", async () => {
  const seen: number[] = [];
  for await (const value of merge([numbers([1, 2, 3]), numbers([10]), numbers([])]))
    seen.push(value);
  expect(seen.filter((value) => value < 10)).toEqual([1, 2, 3]);
  expect(seen).toContain(10);
  expect(seen.length).toBe(4);
});

test("one that fails while nobody asks for more fails the next to ask, and nobody else", async () => {
  // A rejection that nobody handles would end the process, and here the test run.
  let fail: (error: Error) => void = () => {};
  async function* failing() {
    yield 1;
    await new Promise((_resolve, reject) => {
      fail = reject;
    });
  }
  async function* silent() {
    await new Promise(() => {});
    yield 2;
  }
  const merged = merge<number>([failing(), silent()]);
  expect(await merged.next()).toEqual({ done: false, value: 1 });
  fail(new Error("gone"));
  await new Promise((resolve) => setTimeout(resolve, 5));
  await expect(merged.next()).rejects.toThrow("gone");
});
