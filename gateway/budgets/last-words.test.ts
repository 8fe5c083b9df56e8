import { appendFile, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { withFolder } from "../metering/testing.ts";
import { LastWords } from "./last-words.ts";
import type { LastWord } from "./types.ts";

test("what a process settled is left by its kill, and forgotten once the store has heard it", () =>
  withFolder(async (folder) => {
    const dead = await open(folder, "dead");
    dead.note("one", 3n);
    dead.note("two", 10n ** 20n);
    dead.note("one", 5n);
    dead.note("gone", 7n);
    dead.note("gone", undefined);
    // Cut off by the kill.
    await appendFile(join(folder, "dead.log"), '["one","9');

    const next = await open(folder, "next");
    const [said, store] = stand(["two"]);
    await next.say(store);
    expect(said).toEqual([
      ["dead", { name: "one", settled: 5n }],
      ["dead", { name: "two", settled: 10n ** 20n }],
    ]);
    // It dies as well, and says nothing that it has not heard to be over.
    next.note("three", 1n);
    const last = await open(folder, "last");
    const [all, heard] = stand([]);
    await last.say(heard);
    expect(all.map(([owner, { name }]) => `${owner} ${name}`).sort()).toEqual([
      "dead one",
      "dead two",
      "next three",
    ]);
    expect(await readdir(folder)).toEqual([]);
    await last.say(heard);
    expect(all).toHaveLength(3);
  }));

test("a store that does not answer is told later", () =>
  withFolder(async (folder) => {
    (await open(folder, "dead")).note("one", 3n);
    const next = await open(folder, "next");
    await expect(next.say({ lastWord: () => Promise.reject(new Error("away")) })).rejects.toThrow();
    const [said, store] = stand([]);
    await next.say(store);
    expect(said).toEqual([["dead", { name: "one", settled: 3n }]]);
  }));

test("nothing is left by who gave all back, nor where the machine was started anew, nor in a damaged file", () =>
  withFolder(async (folder) => {
    const tidy = await open(folder, "tidy");
    tidy.note("one", 3n);
    tidy.note("one", undefined);
    tidy.close();
    tidy.note("one", 4n);
    expect(await readdir(folder)).toEqual([]);
    (await open(folder, "dead", "before")).note("one", 3n);
    await writeFile(join(folder, "broken.log"), '["now"]\n["one","3"]\n\0\0\0\n["one","4"]\n');
    await writeFile(join(folder, "half.log.new"), '["now"]\n["one","3"]\n');
    const next = await open(folder, "next");
    const [said, store] = stand([]);
    await next.say(store);
    expect(said).toEqual([]);
    expect(await readdir(folder)).toEqual([]);
  }));

test(
  "the file grows no further than what stands in it",
  () =>
    withFolder(async (folder) => {
      const one = await open(folder, "one");
      for (let turn = 0n; turn < 60_000n; turn++) one.note(`counter-${turn % 300n}`, turn);
      expect((await stat(join(folder, "one.log"))).size).toBeLessThan(2 ** 20 + 2 ** 16);
      const lines = (await readFile(join(folder, "one.log"), "utf8")).split("\n");
      expect(lines.at(-2)).toBe('["counter-299","59999"]');
      const next = await open(folder, "next");
      const [said, store] = stand([]);
      await next.say(store);
      expect(said).toHaveLength(300);
    }),
  30_000,
);

function open(folder: string, owner: string, boot = "now") {
  return LastWords.open({
    ...{ folder, owner, boot },
    onError(error) {
      throw error;
    },
  });
}

function stand(living: readonly string[]) {
  const said: [string, LastWord][] = [];
  const store = {
    async lastWord(owner: string, words: readonly LastWord[]) {
      for (const word of words) said.push([owner, word]);
      return words.map(({ name }) => name).filter((name) => living.includes(name));
    },
  };
  return [said, store] as const;
}
