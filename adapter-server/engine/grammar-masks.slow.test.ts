/** Masks from real threads: what is allowed, what a bad grammar costs, and that nothing is kept. */
import { afterEach, expect, test } from "vitest";
import type { Grammar } from "../output/grammar/matchers.ts";
import { toVocabulary } from "../output/grammar/vocabulary.ts";
import { type GrammarLimits, GrammarMasks } from "./grammar-masks.ts";

const words = ["<end>", "a", "b", "ab", "é", '"', "\u0001", " ", "c"];
const vocabSize = 40;
const tokenizer = {
  bytesOf: (id: number) => new TextEncoder().encode(words[id] ?? ""),
  isControl: (id: number) => id === 0,
};
const limits: GrammarLimits = {
  grammarSequencesMax: 4,
  grammarThreadsMax: 2,
  grammarMsMax: 5_000,
  grammarBytesMax: 256 << 20,
  grammarsCachedMax: 8,
};
const open: GrammarMasks[] = [];

function masksWith(own: Partial<GrammarLimits> = {}): GrammarMasks {
  const masks = new GrammarMasks(
    {
      vocabulary: toVocabulary(tokenizer, vocabSize),
      endTokenIds: [0],
      limits: { ...limits, ...own },
    },
    vocabSize,
    () => performance.now(),
  );
  open.push(masks);
  return masks;
}

afterEach(async () => {
  await Promise.all(open.splice(0).map((masks) => masks.end()));
});

const text = (ebnf: string): Grammar => ({ ebnf });

function begin(masks: GrammarMasks, id: number, grammar: Grammar): Promise<unknown> {
  return new Promise((resolve) => masks.open(id, grammar, resolve));
}

async function allowed(masks: GrammarMasks, id: number): Promise<string[]> {
  while ((await masks.ready([id])).has(id)) {}
  const mask = masks.maskOf(id);
  return words.filter((_, token) => ((mask?.[token >> 5] ?? 0) >>> (token & 31)) & 1);
}

test("what may come next is what the grammar goes on with, and its end where it is complete", async () => {
  const masks = masksWith();
  expect(await begin(masks, 1, text('root ::= "ab" "c"?'))).toBeUndefined();
  expect(await allowed(masks, 1)).toEqual(["a", "ab"]);
  masks.advance([[1, 1]]);
  expect(await allowed(masks, 1)).toEqual(["b"]);
  masks.advance([[1, 2]]);
  expect(await allowed(masks, 1)).toEqual(["<end>", "c"]);
});

test("beyond ASCII, and for control characters, tokens are spelled as our own grammars spell them", async () => {
  const masks = masksWith();
  // "é" is C3 A9: the fourth quarter's 0x03 and the third's 0x29.
  await begin(masks, 1, text('root ::= "\\u0004C\\u0003i" | "\\u0001A"'));
  expect(await allowed(masks, 1)).toEqual(["é", "\u0001"]);
});

test("sequences on one thread and on several do not meet", async () => {
  const masks = masksWith();
  await Promise.all([
    begin(masks, 1, text('root ::= "a" "b"')),
    begin(masks, 2, text('root ::= "a" "b"')),
    begin(masks, 3, text('root ::= "b" "c"')),
  ]);
  masks.advance([
    [1, 1],
    [3, 2],
  ]);
  expect(await allowed(masks, 1)).toEqual(["b"]);
  expect(await allowed(masks, 2)).toEqual(["a", "ab"]);
  expect(await allowed(masks, 3)).toEqual(["c"]);
});

test("a grammar that cannot be read fails alone, with the reason, and others go on from their tokens", async () => {
  const masks = masksWith({ grammarThreadsMax: 1 });
  await begin(masks, 1, text('root ::= "a" "b"'));
  masks.advance([[1, 1]]);
  const error = await begin(masks, 2, text("root ::= ("));
  expect(error).toMatchObject({ code: "invalid_value" });
  expect((error as Error).message).toMatch(/cannot be read: EBNF parser error at line 1/);
  expect((error as Error).message).not.toContain("/Users");
  expect(await allowed(masks, 1)).toEqual(["b"]);
  masks.advance([[1, 2]]);
  expect(await allowed(masks, 1)).toEqual(["<end>"]);
});

test("a grammar that takes too long, or too much memory, is given up", async () => {
  const masks = masksWith({ grammarMsMax: 1_500, grammarThreadsMax: 1 });
  await begin(masks, 1, text('root ::= "a" "b"'));
  const hostile = 'root ::= (([ab]{1,900} "a"){1,900} "b"){1,900}';
  expect(await begin(masks, 2, text(hostile))).toMatchObject({ code: "invalid_value" });
  expect(await allowed(masks, 1)).toEqual(["a", "ab"]);
});

test("nobody waits long for a mask, and one that is late for another's grammar comes when that is given up", async () => {
  const masks = masksWith({ grammarMsMax: 2_000, grammarThreadsMax: 1 });
  await begin(masks, 1, text('root ::= "a" "b" "c"'));
  const parts = Array.from({ length: 12 }, (_, index) => `r${index}`);
  const slow = parts.map((name, index) => `${name} ::= ([ab]{1,${900 - index}} "a"){1,900}`);
  const refused = begin(masks, 2, text(`root ::= ${parts.join(" ")}\n${slow.join("\n")}`));
  masks.advance([[1, 1]]);
  expect(await masks.ready([1])).toEqual(new Set([1]));
  expect(await allowed(masks, 1)).toEqual(["b"]);
  expect(await refused).toMatchObject({ code: "invalid_value" });
});

test("there is room for so many sequences and no more, and it is given back", async () => {
  const masks = masksWith({ grammarSequencesMax: 2 });
  for (let round = 0; round < 3; round++) {
    await begin(masks, 1, text('root ::= "a"'));
    await begin(masks, 2, text('root ::= "b"'));
    expect(() => masks.open(3, text('root ::= "c"'), () => {})).toThrow(/Too many/);
    masks.close(1);
    masks.close(2);
    expect([...masks.ids]).toEqual([]);
    while (!canOpen(masks)) await new Promise((resolve) => setTimeout(resolve, 2));
  }
});

function canOpen(masks: GrammarMasks): boolean {
  try {
    for (const id of [8, 9]) masks.open(id, text('root ::= "a"'), () => {});
    return true;
  } catch {
    return false;
  } finally {
    for (const id of [8, 9]) masks.close(id);
  }
}
