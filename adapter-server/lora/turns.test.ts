import { expect, test } from "vitest";
import { Turns } from "./turns.ts";

const limit = { msMax: 60_000, late: () => new Error("late") };

function held() {
  let finish = () => {};
  const promise = new Promise<void>((resolve) => {
    finish = resolve;
  });
  return { promise, finish };
}

test("no more run at one time than may, in the order in which they came", async () => {
  const turns = new Turns(2);
  const works = [held(), held(), held(), held()];
  const started: number[] = [];
  const runs = works.map((work, index) =>
    turns.run(async () => {
      started.push(index);
      await work.promise;
    }, limit),
  );
  expect(started).toEqual([0, 1]);
  works[1]!.finish();
  await runs[1];
  await new Promise((resolve) => setImmediate(resolve));
  expect(started).toEqual([0, 1, 2]);
  for (const work of works) work.finish();
  await Promise.all(runs);
  expect(started).toEqual([0, 1, 2, 3]);
});

test("one that fails gives its turn to the next", async () => {
  const turns = new Turns(1);
  const failing = turns.run(async () => {
    throw new Error("gone");
  }, limit);
  const next = turns.run(async () => "done", limit);
  await expect(failing).rejects.toThrow("gone");
  expect(await next).toBe("done");
});

test("who hangs is given up, and so is who waits behind it, but what hangs keeps its turn", async () => {
  const turns = new Turns(1);
  const hung = held();
  const short = { ...limit, msMax: 5 };
  const first = turns.run(() => hung.promise, short);
  const second = turns.run(async () => "second", short);
  await expect(first).rejects.toThrow("late");
  await expect(second).rejects.toThrow("late");
  const third = turns.run(async () => "third", limit);
  hung.finish();
  expect(await third).toBe("third");
});
