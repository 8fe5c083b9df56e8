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
  grammarTenantSequencesMax: 4,
  grammarThreadsMax: 2,
  grammarQuickMsMax: 1_000,
  grammarMsMax: 5_000,
  grammarWaitMsMax: 20,
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

function begin(masks: GrammarMasks, id: number, grammar: Grammar, tenant = "t"): Promise<unknown> {
  return new Promise((resolve) => masks.open(id, { grammar, tenant }, resolve));
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

test("a grammar that failed leaves its place, whatever became of its thread", async () => {
  const masks = masksWith({ grammarSequencesMax: 2 });
  for (const id of [1, 2, 3]) {
    expect(await begin(masks, id, text(`root ::= "a${id}`))).toBeDefined();
    masks.close(id);
  }
  expect(await begin(masks, 4, text('root ::= "a"'))).toBeUndefined();
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

/** One that takes a minute and more. Each number makes another one. */
function slowGrammar(number: number): Grammar {
  const parts = Array.from({ length: 40 }, (_, index) => `r${index}`);
  const rules = parts.map((name, i) => `${name} ::= ([ab]{1,${900 - i}} "a"){1,${900 - number}}`);
  return text(`root ::= ${parts.join(" ")}\n${rules.join("\n")}`);
}

test("slow grammars of more tenants than there are threads hold up nobody else's", async () => {
  const masks = masksWith({
    grammarMsMax: 60_000,
    grammarQuickMsMax: 300,
    grammarSequencesMax: 32,
  });
  await begin(masks, 1, text('root ::= "a" "b" "c"'), "small");
  let settled = 0;
  for (let tenant = 0; tenant < 5; tenant++) {
    const first = 100 + 2 * tenant;
    for (const id of [first, first + 1]) {
      void begin(masks, id, slowGrammar(id), `large-${tenant}`).then(() => settled++);
    }
  }
  for (const [id, token, next] of [
    [2, 1, "b"],
    [3, 2, "c"],
    [4, 8, "<end>"],
  ] as const) {
    masks.advance([[1, token]]);
    // A new grammar each time, of a tenant that asks for the first time.
    expect(await begin(masks, id, text(`root ::= "a" "${"b".repeat(id)}"`), `new-${id}`)).toBe(
      undefined,
    );
    expect(await allowed(masks, id)).toEqual(["a", "ab"]);
    expect(await allowed(masks, 1)).toEqual([next]);
  }
  // Some may have run out of memory by now, and others are still in the way.
  expect(settled).toBeLessThan(10);
});

test("slow grammars are given up one after the other, tenant by tenant, and quick streams never notice", async () => {
  const masks = masksWith({ grammarMsMax: 700, grammarQuickMsMax: 200, grammarSequencesMax: 32 });
  await begin(masks, 1, text("root ::= [ab]{1,500}"), "small");
  const order: number[] = [];
  const refusals = [10, 11, 20, 30].map(async (id) => {
    const error = await begin(masks, id, slowGrammar(id), `large-${Math.floor(id / 10)}`);
    order.push(id);
    masks.close(id);
    return error;
  });
  const all = Promise.all(refusals);
  let isOver = false;
  void all.then(() => {
    isOver = true;
  });
  let said = 0;
  while (!isOver) {
    expect(await allowed(masks, 1)).toContain("b");
    if (said++ < 400) masks.advance([[1, 2]]);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  for (const error of await all) expect(error).toMatchObject({ code: "invalid_value" });
  expect(order.at(-1)).toBe(11);
});

test("a grammar that takes long is followed all the same, where those of its kind are", async () => {
  const masks = masksWith({ grammarQuickMsMax: 1, grammarMsMax: 60_000, grammarSequencesMax: 8 });
  const large = text('root ::= ([ab]{1,300} "a"){1,40}');
  expect(await begin(masks, 1, large, "large")).toBeUndefined();
  expect(await allowed(masks, 1)).toEqual(["a", "b", "ab"]);
  masks.advance([[1, 2]]);
  expect(await begin(masks, 2, large, "other")).toBeUndefined();
  expect(await allowed(masks, 2)).toEqual(["a", "b", "ab"]);
});

test("nobody waits long for a mask, and one that is late for another's grammar comes when that is given up", async () => {
  const masks = masksWith({ grammarQuickMsMax: 1, grammarMsMax: 4_000 });
  // Two that take long share a thread.
  await begin(masks, 1, text('root ::= ([ab]{1,300} "a"){1,40} | [ab]*'), "one");
  const refused = begin(masks, 2, slowGrammar(1), "other");
  while (!(await masks.ready([1])).has(1)) {
    masks.advance([[1, 2]]);
    await new Promise(setImmediate);
  }
  expect(await allowed(masks, 1)).toContain("b");
  expect(await refused).toMatchObject({ code: "invalid_value" });
});

test("there is room for so many sequences and no more, and it is given back", async () => {
  const masks = masksWith({ grammarSequencesMax: 2 });
  for (let round = 0; round < 3; round++) {
    await begin(masks, 1, text('root ::= "a"'));
    await begin(masks, 2, text('root ::= "b"'));
    expect(() => masks.open(3, { grammar: text('root ::= "c"'), tenant: "t" }, () => {})).toThrow(
      /Too many/,
    );
    masks.close(1);
    masks.close(2);
    expect([...masks.ids]).toEqual([]);
    while (!canOpen(masks)) await new Promise((resolve) => setTimeout(resolve, 2));
  }
});

function canOpen(masks: GrammarMasks): boolean {
  try {
    const grammar = text('root ::= "a"');
    for (const id of [8, 9]) masks.open(id, { grammar, tenant: "t" }, () => {});
    return true;
  } catch {
    return false;
  } finally {
    for (const id of [8, 9]) masks.close(id);
  }
}

test("one tenant has a part of the room, and others find the rest", async () => {
  const masks = masksWith({ grammarTenantSequencesMax: 2 });
  await begin(masks, 1, text('root ::= "a"'), "crowd");
  await begin(masks, 2, text('root ::= "b"'), "crowd");
  const grammar = text('root ::= "c"');
  const third = () => masks.open(3, { grammar, tenant: "crowd" }, () => {});
  expect(third).toThrow(expect.objectContaining({ code: "rate_limit_exceeded" }));
  expect(await begin(masks, 4, grammar, "other")).toBeUndefined();
  masks.close(1);
  expect(third).not.toThrow();
});

test("tenants take turns at having grammars compiled", async () => {
  const masks = masksWith({
    grammarThreadsMax: 1,
    grammarSequencesMax: 8,
    grammarTenantSequencesMax: 8,
  });
  const order: number[] = [];
  const opened = [1, 2, 3, 4].map((id) =>
    begin(masks, id, text(`root ::= "a" "${"b".repeat(id)}"`), "crowd").then(() => order.push(id)),
  );
  opened.push(begin(masks, 5, text('root ::= "c"'), "other").then(() => order.push(5)));
  await Promise.all(opened);
  expect(order).toEqual([1, 5, 2, 3, 4]);
});

test("behind supposed tokens stands what it would be if they were said, and nothing of them is kept", async () => {
  const masks = masksWith();
  const grammar = text('root ::= ("a" | "b") ("a" | "b") "c"');
  await begin(masks, 1, grammar);
  await begin(masks, 2, grammar);
  const wordsOf = (mask: Int32Array | undefined) =>
    mask && words.filter((_, token) => ((mask[token >> 5] ?? 0) >>> (token & 31)) & 1);
  const supposedAfter = async (tokens: readonly number[]) => {
    masks.suppose([[1, tokens]]);
    for (;;) {
      await masks.ready([1]);
      const found = tokens.map((_, place) => wordsOf(masks.supposedMaskOf(1, place + 1)));
      // What comes behind a refused token is known to be nothing once the one before it is known.
      if (found[0]) return found;
    }
  };
  expect(await supposedAfter([1, 2, 8])).toEqual([["a", "b", "ab"].slice(0, 2), ["c"], ["<end>"]]);
  expect(await supposedAfter([2, 8, 1])).toEqual([["a", "b"], undefined, undefined]);
  // Behind the end of a text nothing may be supposed.
  expect(await supposedAfter([3, 8, 0])).toEqual([["c"], ["<end>"], undefined]);
  expect(await allowed(masks, 1)).toEqual(["a", "b", "ab"]);
  masks.advance([
    [1, 2],
    [1, 1],
    [2, 3],
  ]);
  expect(await allowed(masks, 1)).toEqual(["c"]);
  expect(await allowed(masks, 2)).toEqual(["c"]);
  expect(masks.supposedMaskOf(2, 1)).toBeUndefined();
});

test("a mask that stays late holds up the steps of others once, and not again and again", async () => {
  // Its own clock, which moves when it is read: by how far is told how often.
  let ms = 0;
  const waitMs = 60;
  const options = {
    vocabulary: toVocabulary(tokenizer, vocabSize),
    endTokenIds: [0],
    limits: { ...limits, grammarQuickMsMax: 1, grammarMsMax: 1e9, grammarWaitMsMax: waitMs },
  };
  const masks = new GrammarMasks(options, vocabSize, () => ms++);
  open.push(masks);
  const stepMs = async (ids: readonly number[]) => {
    const before = ms;
    const late = await masks.ready(ids);
    return { late: [...late], ms: ms - before };
  };
  // Its thread compiles another one from now on.
  await begin(masks, 1, text('root ::= ([ab]{1,300} "a"){1,40} | [ab]*'), "one");
  void begin(masks, 2, slowGrammar(1), "other");
  while (!(await masks.ready([1])).has(1)) {
    masks.advance([[1, 2]]);
    await new Promise(setImmediate);
  }
  const free = 99;
  const again = await stepMs([free, 1]);
  expect(again.late).toEqual([1]);
  expect(again.ms).toBeLessThan(waitMs);
  // Nobody is held up by waiting where nobody could go on.
  expect((await stepMs([1])).ms).toBeGreaterThanOrEqual(waitMs);
});
