/** Text out of tokens: whole characters, and nothing of a stop string. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { expect, test } from "vitest";
import { openFolder } from "../models/hugging-face-folder.ts";
import { createTokenizer } from "../models/tokenizer.ts";
import { Detokenizer } from "./detokenizer.ts";
import { StopStrings } from "./stop-strings.ts";

const base = fileURLToPath(new URL("../../deploy/demo-model/base/", import.meta.url));
const tokenizer = createTokenizer((await openFolder(base)).tokenizer);
const texts = (
  JSON.parse(
    readFileSync(new URL("../__fixtures__/tiny/tokenizer.json", import.meta.url), "utf8"),
  ) as { text: string }[]
).map(({ text }) => text);

function pieces(ids: readonly number[], options = {}): string[] {
  const detokenizer = new Detokenizer(tokenizer, options);
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
