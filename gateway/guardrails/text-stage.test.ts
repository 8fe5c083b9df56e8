/** Texts that come in pieces are read as whole ones are, wherever they are cut. */
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { expect, test } from "vitest";
import { piiKinds } from "../../sdk/protocol/guardrails.ts";
import type { Detector } from "./detectors/detector.ts";
import { throughDisguises } from "./detectors/disguises.ts";
import { patternsDetector } from "./detectors/patterns.ts";
import { piiDetector } from "./detectors/pii.ts";
import { secretsDetector } from "./detectors/secrets.ts";
import { wordsDetector } from "./detectors/words.ts";
import { mapStrings } from "./json-strings.ts";
import { Placeholders, placeholderDetector } from "./placeholders.ts";
import { replaceAll, TextStage } from "./text-stage.ts";

const masked = (text: string, detector: Detector) =>
  replaceAll(text, detector, (_, { kind }) => `<${kind}>`);

function inPieces(pieces: readonly string[], detector: Detector): string {
  const stage = new TextStage(detector, (_, { kind }) => `<${kind}>`);
  return pieces.map((piece) => stage.push(piece)).join("") + stage.end();
}

const pii = piiDetector(piiKinds);
const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
function withCrc(text: string): string {
  let rest = crc32(text);
  let digits = "";
  for (let at = 0; at < 6; at++) {
    digits = base62[rest % 62] + digits;
    rest = Math.floor(rest / 62);
  }
  return text + digits;
}
const ours = withCrc(`sk-sy-${"a1B2c3D4".repeat(4)}`);
const pem = (end: string) =>
  ["-----BEGIN RSA PRIVATE", ` KEY-----\n${"MIIE".repeat(60)}\n${end}`].join("");
const jwt = [`eyJ${"hbGciOi".repeat(3)}`, `eyJ${"zdWIiOi".repeat(9)}`, "s".repeat(43)].join(".");

test.each([
  ["ada.l+x@mail.example.co.uk, ok", "<EMAIL>, ok"],
  ["Ring +49 (0)30 901820-0 or 0044 20 7946 0958.", "Ring <PHONE> or <PHONE>."],
  ["IBAN GB82 WEST 1234 5698 7654 33, no", "IBAN GB82 WEST 1234 5698 7654 33, no"],
  ["IBAN GB82 WEST 1234 5698 7654 32, please", "IBAN <IBAN>, please"],
  ["DE89370400440532013000", "<IBAN>"],
  ["card 4111 1111 1111 1111 12/29", "card <CARD> 12/29"],
  ["card 4111-1111-1111-1112", "card 4111-1111-1111-1112"],
  [
    "at 192.168.0.17 and 2001:db8::1, not 999.1.1.1 or 12:30:45",
    "at <IP> and <IP>, not 999.1.1.1 or 12:30:45",
  ],
  ["DNI 12345678Z, not 12345678A", "DNI <NATIONAL_ID>, not 12345678A"],
  ["RSSMRA85T10A562S", "<NATIONAL_ID>"],
  ["Steuer-ID 86 095 742 719", "Steuer-ID <NATIONAL_ID>"],
])("personal data: %s", (text, expected) => {
  expect(masked(text, pii)).toBe(expected);
});

test.each([
  [`key ${ours}.`, "key <SWITCHYARD_KEY>."],
  [`key ${ours.slice(0, -1)}~`, `key ${ours.slice(0, -1)}~`],
  [`a ${jwt} b`, "a <JWT> b"],
  [`a ${pem("-----END RSA PRIVATE KEY-----")} b`, "a <PRIVATE_KEY> b"],
  [["AKIA", "ABCDEFGHIJKLMNOP"].join(""), "<AWS_KEY>"],
  [["ghp_", "x".repeat(36)].join(""), `ghp_${"x".repeat(36)}`],
])("secrets: %s", (text, expected) => {
  expect(masked(text, secretsDetector)).toBe(expected);
});

const hidden = (text: string) =>
  [...text].map((char) => String.fromCodePoint(0xe0000 + char.charCodeAt(0))).join("");
test.each([
  ['{"mail":"bob\\u0040example.com"}', '{"mail":"<EMAIL>"}'],
  ['"{\\"mail\\":\\"bob\\\\u0040example.com\\"}"', '"{\\"mail\\":\\"<EMAIL>\\"}"'],
  ["line\\nada@example.com", "line\\n<EMAIL>"],
  ["ad\u200ba@exam\u00adple.com, ok", "<EMAIL>, ok"],
  ["ａｄａ＠ｅｘａｍｐｌｅ．ｃｏｍ", "<EMAIL>"],
  ["card 4111\u00a01111\u202f1111\u20071111", "card <CARD>"],
  ["über ada@example.com 🦜", "über <EMAIL> 🦜"],
  ["C:\\temp\\new", "C:\\temp\\new"],
])("personal data that is written otherwise than it reads: %j", (text, expected) => {
  expect(masked(text, throughDisguises(pii))).toBe(expected);
});

test.each([
  ["a forb\u00adidden thing", "a <WORD> thing"],
  ["a f\u043erb\u0456dden thing", "a <WORD> thing"],
  ["a 𝐟𝐨𝐫𝐛𝐢𝐝𝐝𝐞𝐧 thing", "a <WORD> thing"],
  [
    "a f\u0336o\u0336r\u0336b\u0336i\u0336d\u0336d\u0336e\u0336n\u0336 thing",
    "a <WORD>\u0336 thing",
  ],
  [`a ${hidden("forbidden")} thing`, "a <WORD> thing"],
  ["a запрет\u200bный thing", "a <WORD> thing"],
  ["un cafe\u0301 noir", "un <WORD> noir"],
  ["un café noir", "un <WORD> noir"],
  ["no o\ufb03ce here", "no <WORD> here"],
  ["the unforbidden", "the unforbidden"],
])("words that are written otherwise than they read: %j", (text, expected) => {
  const words = wordsDetector(["forbidden", "запретный", "café", "office"], { whole: true });
  expect(masked(text, throughDisguises(words))).toBe(expected);
});

test("a long text is read in pieces, and what lies across their ends is found like all else", () => {
  const words = throughDisguises(wordsDetector(["forbidden"], { whole: true }));
  const window = throughDisguises(patternsDetector(["titan"], 128));
  const person = "ａda\\u0040exa\u00admple.com";
  for (let shift = 0; shift < 48; shift++) {
    const filler = `${"б ".repeat(4084)}${".".repeat(shift)} `;
    const long = (one: string) => filler + one + ` ${filler}`.repeat(2);
    expect(masked(long(person), throughDisguises(pii))).toBe(long("<EMAIL>"));
    expect(masked(long("f\u200borbi\\u0064den"), words)).toBe(long("<WORD>"));
    expect(masked(long("tit\\u0061n"), window)).toBe(long("<MATCH>"));
  }
});

test.each([
  ["a phrase of 18 characters in one", "\ufdfa"],
  ["letters of another script", "б"],
  ["escapes", "\\u0061 "],
])("a long text is looked at about as often as a short one, and never unfolded: %s", (_, char) => {
  const looked: number[] = [];
  const all: Detector = {
    find: (text) => {
      looked.push(text.length);
      return [];
    },
    openFrom: (text) => text.length,
  };
  const text = char.repeat(900_000 / char.length);
  expect(throughDisguises(all).find(text, 0)).toEqual([]);
  const [whole, ...views] = looked;
  expect(whole).toBe(text.length);
  expect(views.length).toBeGreaterThan(100);
  expect(Math.max(...views)).toBeLessThan(40_000);
  expect(views.reduce((sum, one) => sum + one, 0)).toBeLessThan(2.1 * text.length);
});

test("the same text has one placeholder, however it is written, and comes back as it reads", () => {
  const placeholders = new Placeholders([]);
  const text = "ada@example.com, \\u0061da@example.com, ａｄａ@example.com";
  const mask = (found: string, { kind, reads = found }: { kind: string; reads?: string }) =>
    placeholders.of(reads, kind, true);
  expect(replaceAll(text, throughDisguises(pii), mask)).toBe("[EMAIL_1], [EMAIL_1], [EMAIL_1]");
  expect(placeholders.textOf("[EMAIL_1]")).toBe("ada@example.com");
});

test("words are found whole and in any case, the longest of those that begin together", () => {
  const words = wordsDetector(["he", "she", "hers", "Straße 9"], { whole: true });
  expect(masked("He said she has HERS in STRAßE 9; the shed", words)).toBe(
    "<WORD> said <WORD> has <WORD> in <WORD>; the shed",
  );
  expect(masked("the shed", wordsDetector(["he", "she"], { whole: false }))).toBe(
    "t<WORD> <WORD>d",
  );
});

const pieces = [
  ...["ada@example.com", "+49 30 901820", "GB82 WEST 1234 5698 7654 32", "4111 1111 1111 1111"],
  ...[
    "192.168.0.17",
    "12345678Z",
    ours,
    jwt,
    pem("-----END RSA PRIVATE KEY-----"),
    "project titan",
  ],
  ...[
    "[EMAIL_1]",
    "[CARD_12",
    "forbidden",
    "forb",
    "idden",
    " ",
    ", ",
    ".",
    "a",
    "7",
    "-",
    "@",
    "+",
    "ü",
    "🦜",
  ],
  ...[
    "\\u0061da@example.com",
    "\\",
    "\\n",
    "u00",
    "\u200b",
    "fo\u200brb",
    "fоrbidden",
    "ｐｒｏｊｅｃｔ titan",
  ],
  ...["proj\\u0065ct\u00a0titan", "u\u0308bel", "\\u00fcbel", "4111\u00a01111\u20071111\u202f1111"],
];
const detectors: Record<string, Detector> = {
  pii,
  secrets: secretsDetector,
  words: wordsDetector(["forbidden", "idden forb", "a7"], { whole: false }),
  "whole words": wordsDetector(["forbidden", "project titan", "a"], { whole: true }),
  patterns: patternsDetector(["(?i)project\\s+titan", "forb[a-z]{0,20}"], 128),
  placeholders: placeholderDetector,
  "pii, however it is written": throughDisguises(pii),
  "words, however they are written": throughDisguises(
    wordsDetector(["forbidden", "project titan", "a", "übel"], { whole: true }),
  ),
  "patterns, however they are written": throughDisguises(
    patternsDetector(["(?i)project\\s+titan", "forb[a-z]{0,20}"], 128),
  ),
};
test.each(Object.entries(detectors))(
  "%s: cut anywhere, a text is read as if it were whole",
  (_, detector) => {
    const text = fc
      .array(fc.constantFrom(...pieces), { maxLength: 8 })
      .map((parts) => parts.join(""));
    const cuts = fc.array(fc.nat(), { maxLength: 12 });
    fc.assert(
      fc.property(text, cuts, (said, at) => {
        const places = [...new Set([0, ...at.map((one) => one % (said.length + 1)), said.length])];
        places.sort((a, b) => a - b);
        const parts = places.slice(1).map((end, index) => said.slice(places[index], end));
        expect(inPieces(parts, detector)).toBe(masked(said, detector));
        expect(inPieces([...said], detector)).toBe(masked(said, detector));
      }),
      { numRuns: 300 },
    );
  },
);

test("hostile patterns and texts take bounded time, or are refused", () => {
  const text = "x".repeat(100_000);
  expect(masked(`${text}!`, patternsDetector(["(x+x+)+y"], 128))).toBe(`${text}!`);
  const search = () => masked("x".repeat(2_000_000), patternsDetector(["x.*y|x"], 128));
  expect(search).toThrow(/longer than/);
  expect(() => masked(text.repeat(10), patternsDetector(["[a-z]{100}[0-9]"], 128))).toThrow(
    /longer than/,
  );
  // Quadratic in a list, were each of its words looked for from each place.
  const words = Array.from({ length: 1000 }, (_, n) => `${"x".repeat(120)}${n}`);
  expect(masked(text, wordsDetector(words, { whole: false }))).toBe(text);
  for (const char of [
    "@",
    "1 ",
    "\\",
    "\\n",
    "\u200b",
    "е",
    "-----BEGIN ",
    "eyJ",
    "a.",
    "+1",
    "DE89",
  ]) {
    const long = char.repeat(50_000);
    expect(masked(long, secretsDetector).length).toBeGreaterThan(0);
    expect(masked(long, pii).length).toBeGreaterThan(0);
    expect(masked(long, throughDisguises(pii)).length).toBeGreaterThan(0);
  }
});

test("what looks like a placeholder already is none of ours", () => {
  const placeholders = new Placeholders(["see [EMAIL_1]"]);
  expect(placeholders.of("a@b.de", "EMAIL", true)).toBe("[EMAIL_2]");
  expect(placeholders.of("a@b.de", "EMAIL", true)).toBe("[EMAIL_2]");
  expect(placeholders.textOf("[EMAIL_1]")).toBeUndefined();
});

test("arguments of tools are looked at as what they stand for; bytes and the protocol's own words are not", () => {
  const body = {
    model: "ada@example.com",
    messages: [
      {
        role: "user",
        content: [{ type: "image_url", image_url: { url: "data:image/png;base64,YWRh" } }],
      },
      {
        role: "assistant",
        tool_calls: [{ function: { arguments: '{"ada\\u0040example.com":4111111111111111}' } }],
      },
      { role: "user", content: [{ type: "tool_use", input: { id: "ada@example.com" } }] },
    ],
    contents: [
      { parts: [{ functionResponse: { name: "look", response: { status: "ada@example.com" } } }] },
    ],
    metadata: { conversation: "ada@example.com" },
    labels: { model: "ada@example.com" },
    requestMetadata: { id: "ada@example.com" },
    response: { id: "ada@example.com" },
  };
  const mapped = JSON.stringify(mapStrings(body, (text) => masked(text, pii)));
  expect(mapped).toContain('"model":"ada@example.com"');
  expect(mapped).toContain(JSON.stringify('{"<EMAIL>":"<CARD>"}'));
  expect(mapped).toContain('"input":{"id":"<EMAIL>"}');
  expect(mapped).toContain('"name":"look","response":{"status":"<EMAIL>"}');
  expect(mapped).toContain('"metadata":{"conversation":"<EMAIL>"}');
  expect(mapped).toContain('"labels":{"model":"<EMAIL>"}');
  expect(mapped).toContain('"requestMetadata":{"id":"<EMAIL>"}');
  expect(mapped).toContain('"response":{"id":"ada@example.com"}');
  expect(mapStrings(body, (text) => text)).toBe(body);
});
