/** Text out of tokens: whole characters, and nothing of a stop string. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { GgufValue } from "../models/gguf/header.ts";
import { toTokenizer } from "../models/gguf/tokenizer.ts";
import { openFolder } from "../models/hugging-face-folder.ts";
import { createTokenizer, type Tokenizer } from "../models/tokenizer.ts";
import { Detokenizer } from "./detokenizer.ts";
import { StopStrings } from "./stop-strings.ts";

const base = fileURLToPath(new URL("../../deploy/demo-model/base/", import.meta.url));
const tokenizer = createTokenizer((await openFolder(base)).tokenizer);
const texts = (
  JSON.parse(
    readFileSync(new URL("../__fixtures__/tiny/tokenizer.json", import.meta.url), "utf8"),
  ) as { text: string }[]
).map(({ text }) => text);

/** Its pieces begin with spaces that a text's first one loses, and bytes are tokens of their own. */
const sentencePiece = createTokenizer(readSentencePiece());

function readSentencePiece() {
  const url = new URL("../models/gguf/__fixtures__/sentence-piece.json", import.meta.url);
  const { tokens, scores, types } = JSON.parse(readFileSync(url, "utf8"));
  return toTokenizer(
    new Map<string, GgufValue>([
      ["tokenizer.ggml.model", "llama"],
      ["tokenizer.ggml.tokens", tokens],
      ["tokenizer.ggml.scores", scores],
      ["tokenizer.ggml.token_type", types],
      ["tokenizer.ggml.unknown_token_id", 0],
    ]),
  ).tokenizer;
}

function pieces(ids: readonly number[], options = {}, of: Tokenizer = tokenizer): string[] {
  const detokenizer = new Detokenizer(of, options);
  return [...ids.map((id) => detokenizer.push(id)), detokenizer.flush()];
}

test("pieces of every golden string, joined, are the string", () => {
  for (const text of texts) {
    const ids = tokenizer.encode(text);
    expect(pieces(ids).join("")).toBe(tokenizer.decode(ids));
  }
});

test("no piece holds half a character, whatever the text", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme" }), (text) => {
      const ids = tokenizer.encode(text);
      const all = pieces(ids);
      expect(all.join("")).toBe(tokenizer.decode(ids));
      if (!text.includes("\ufffd")) for (const piece of all) expect(piece).not.toContain("\ufffd");
    }),
  );
});

test("any tokens at all give the same text piece by piece as at once", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 4095 }), { maxLength: 40 }), (ids) => {
      expect(pieces(ids).join("")).toBe(tokenizer.decode(ids));
    }),
  );
});

/** Without a byte order mark, which the library drops where bytes begin with it. */
const scripts = "नमस्ते 👩‍👩‍👧 🇩🇪 é é 漢字 � a b  c";

/** Words, control tokens, and single bytes that make up characters or none. */
function anyTokens(of: Tokenizer, vocabSize: number): fc.Arbitrary<number[]> {
  const all = Array.from({ length: vocabSize }, (_, id) => id);
  const bytes = all.filter((id) => of.bytesOf(id).length === 1);
  const parts = all.filter((id) => of.bytesOf(id).some((byte) => byte >= 0x80));
  const token = fc.oneof(
    fc.constantFrom(...all).map((id) => [id]),
    fc.constantFrom(...bytes, ...parts).map((id) => [id]),
    fc.constantFrom(0, 1, 2).map((id) => [id]),
    fc.string({ unit: fc.constantFrom(...scripts), maxLength: 4 }).map((text) => of.encode(text)),
  );
  return fc.array(token, { maxLength: 60 }).map((list) => list.flat());
}

test.each([
  ["byte-level BPE", tokenizer, 4096],
  ["SentencePiece with bytes", sentencePiece, 700],
] as const)(
  "%s: any words, bytes and control tokens give the same piece by piece as at once",
  (_, of, size) => {
    fc.assert(
      fc.property(anyTokens(of, size), fc.boolean(), (ids, skipSpecialTokens) => {
        const all = pieces(ids, { skipSpecialTokens }, of);
        const whole = of.decode(ids, { skipSpecialTokens });
        expect(all.join("")).toBe(whole);
        const isWhole = !whole.includes("\ufffd");
        if (isWhole) for (const piece of all) expect(piece).not.toContain("\ufffd");
      }),
      { numRuns: 1000 },
    );
  },
);

test("a stop string is found where the whole text has it, however its characters are cut into tokens", () => {
  fc.assert(
    fc.property(
      anyTokens(tokenizer, 4096),
      fc.nat(),
      fc.nat(6),
      fc.boolean(),
      (ids, at, length, includeStop) => {
        const whole = tokenizer.decode(ids);
        const start = at % (whole.length + 1);
        const stop = whole.slice(start, start + length);
        const stops = new StopStrings([stop], { includeStop });
        const text =
          pieces(ids)
            .map((piece) => stops.push(piece))
            .join("") + stops.flush();
        const found = stop === "" ? -1 : whole.indexOf(stop);
        expect(stops.stopped).toBe(found !== -1);
        const end = found === -1 ? whole.length : found + (includeStop ? stop.length : 0);
        expect(text).toBe(whole.slice(0, end));
      },
    ),
    { numRuns: 500 },
  );
});

test("of endless bytes that are no characters, each is text at once but the last", () => {
  const [invalid = -1] = Array.from({ length: 4096 }, (_, id) => id).filter(
    (id) => tokenizer.bytesOf(id).length === 1 && tokenizer.bytesOf(id)[0] === 0x80,
  );
  const all = pieces(new Array(300).fill(invalid));
  expect(all.slice(1, -1).every((piece) => piece === "\ufffd")).toBe(true);
  expect(all.join("")).toBe("\ufffd".repeat(300));
});

test("special tokens are no text, unless they are wished for", () => {
  const ids = [1, ...tokenizer.encode("Hi"), 2];
  expect(pieces(ids).join("")).toBe("Hi");
  expect(pieces(ids, { skipSpecialTokens: false }).join("")).toBe("<|im_start|>Hi<|im_end|>");
});

test("a character of several tokens comes when its last token does", () => {
  const ids = tokenizer.encode("🦜");
  expect(ids.length).toBeGreaterThan(1);
  const all = pieces(ids);
  expect(all.slice(0, ids.length - 1).every((piece) => piece === "")).toBe(true);
  expect(all[ids.length - 1]).toBe("🦜");
});

function run(stops: string[], parts: string[]) {
  const filter = new StopStrings(stops);
  const given = parts.map((part) => filter.push(part));
  return { given, text: given.join("") + filter.flush(), stopped: filter.stopped };
}

test("a stop string in one piece or across pieces ends the text before it", () => {
  expect(run(["END"], ["abENDcd"])).toMatchObject({ text: "ab", stopped: true });
  expect(run(["END"], ["abE", "N", "Dcd"])).toMatchObject({ given: ["ab", "", ""], stopped: true });
  expect(run(["\n\n"], ["a\n", "b\n", "\nc"])).toMatchObject({ text: "a\nb", stopped: true });
});

test("what might have been a stop string is given out when it was none", () => {
  expect(run(["END"], ["abEN", "x"])).toMatchObject({ given: ["ab", "ENx"], stopped: false });
  expect(run(["END"], ["abEN"])).toMatchObject({ text: "abEN", stopped: false });
});

test("of several stop strings the one that is complete first counts", () => {
  expect(run(["later", "so"], ["a so later"])).toMatchObject({ text: "a " });
  expect(run(["b", "abc"], ["abc"])).toMatchObject({ text: "a" });
  expect(run(["c", "bc"], ["abc"])).toMatchObject({ text: "a" });
});

test("any text cut into any pieces is cut at the same place as the whole", () => {
  const letters = fc.string({ unit: fc.constantFrom("a", "b", "c"), maxLength: 20 });
  const stops = fc.array(
    fc.string({ unit: fc.constantFrom("a", "b"), minLength: 1, maxLength: 4 }),
    {
      maxLength: 4,
    },
  );
  fc.assert(
    fc.property(fc.array(letters), stops, (parts, stopList) => {
      const whole = parts.join("");
      // The definition: read on until some stop string is complete, then cut off the longest such.
      const end = [...whole, ""].findIndex((_, length) =>
        stopList.some((stop) => whole.slice(0, length).endsWith(stop)),
      );
      const longest = Math.max(
        0,
        ...stopList
          .filter((stop) => whole.slice(0, end).endsWith(stop))
          .map(({ length }) => length),
      );
      const { text, stopped } = run(stopList, parts);
      expect(stopped).toBe(end !== -1);
      expect(text).toBe(end === -1 ? whole : whole.slice(0, end - longest));
    }),
  );
});
