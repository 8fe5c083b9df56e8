/** Calls are found whatever the format, and however the text is cut. */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { ToolFormat } from "./formats.ts";
import { ToolCallParser } from "./tool-call-parser.ts";

type Read = { text: string; calls: { name: string; arguments: string }[] };

function read(
  format: ToolFormat,
  pieces: readonly string[],
  options = { forced: false, callsMax: 8 },
): Read {
  const parser = new ToolCallParser(format, options);
  const all: Read = { text: "", calls: [] };
  for (const event of [...pieces.flatMap((piece) => parser.push(piece)), ...parser.flush()]) {
    if (event.type === "text") all.text += event.text;
    else if (event.type === "call") {
      expect(event.index).toBe(all.calls.length);
      all.calls.push({ name: event.name, arguments: "" });
    } else {
      const call = all.calls[event.index];
      expect(event.index).toBe(all.calls.length - 1);
      if (call) call.arguments += event.text;
    }
  }
  return all;
}

test("white space without end is text, and takes no longer for being much", () => {
  const space = " \n".repeat(250_000);
  expect(read("hermes", ["so", space, "it is"])).toEqual({ text: `so${space}it is`, calls: [] });
});

const weather = {
  name: "get_weather",
  arguments: '{"city": "Par}is", "days": [1, {"a": "\\"]}"}]}',
};
const time = { name: "get_time", arguments: "{}" };

const cases: [name: string, format: ToolFormat, text: string, wanted: Read][] = [
  [
    "plain text",
    "hermes",
    "Hello <b>there</b>\n\nfriend ",
    { text: "Hello <b>there</b>\n\nfriend", calls: [] },
  ],
  [
    "a call",
    "hermes",
    `<tool_call>\n{"name": "get_weather", "arguments": ${weather.arguments}}\n</tool_call>`,
    { text: "", calls: [weather] },
  ],
  [
    "arguments that come twice, of which the first count",
    "hermes",
    `<tool_call>{"name": "get_weather", "arguments": ${weather.arguments}, "parameters": {"b": 1}, "arguments": {}}</tool_call><tool_call>{"arguments": {}, "arguments": {"a": 1}, "name": "get_time"}</tool_call>`,
    { text: "", calls: [weather, time] },
  ],
  [
    "text, then two calls",
    "hermes",
    `Let me see.\n<tool_call>{"name": "get_weather", "arguments": ${weather.arguments}}</tool_call>\n<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>`,
    { text: "Let me see.", calls: [weather, time] },
  ],
  [
    "arguments before the name",
    "hermes",
    `<tool_call>{"arguments": ${weather.arguments}, "name": "get_weather"}</tool_call>`,
    { text: "", calls: [weather] },
  ],
  [
    "arguments as text",
    "hermes",
    `<tool_call>{"name": "get_time", "arguments": "{}"}</tool_call>`,
    { text: "", calls: [time] },
  ],
  [
    "no arguments",
    "hermes",
    '<tool_call>{"name": "get_time"}</tool_call>',
    { text: "", calls: [time] },
  ],
  [
    "a call that is cut off",
    "hermes",
    '<tool_call>{"name": "get_time", "arguments": {"a',
    { text: "", calls: [{ name: "get_time", arguments: '{"a' }] },
  ],
  [
    "no object behind the mark",
    "hermes",
    "<tool_call>oops</tool_call>",
    { text: "oops</tool_call>", calls: [] },
  ],
  [
    "a bare object",
    "llama3_json",
    `{"name": "get_weather", "parameters": ${weather.arguments}}`,
    { text: "", calls: [weather] },
  ],
  [
    "behind the python tag",
    "llama3_json",
    `<|python_tag|>{"name": "get_weather", "parameters": ${weather.arguments}}; {"name": "get_time", "parameters": {}}`,
    { text: "", calls: [weather, time] },
  ],
  [
    "a type beside it",
    "llama3_json",
    '{"type": "function", "name": "get_time", "parameters": {}}',
    { text: "", calls: [time] },
  ],
  [
    "an object that is no call",
    "llama3_json",
    'Sure: {"a": 1}',
    { text: 'Sure: {"a": 1}', calls: [] },
  ],
  [
    "an object at the start that is no call",
    "llama3_json",
    '{"a": {"b": 1}}',
    { text: '{"a": {"b": 1}}', calls: [] },
  ],
  [
    "a list",
    "mistral",
    `[TOOL_CALLS][{"name": "get_weather", "arguments": ${weather.arguments}}, {"name": "get_time", "arguments": {}}]`,
    { text: "", calls: [weather, time] },
  ],
  [
    "a name before its arguments",
    "mistral",
    `[TOOL_CALLS]get_weather${weather.arguments}[TOOL_CALLS]get_time[ARGS]{}`,
    { text: "", calls: [weather, time] },
  ],
];

test.each(cases)("%s", (_name, format, text, wanted) => {
  expect(read(format, [text])).toEqual(wanted);
});

test("any cut of the text gives the same calls and the same text", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...cases),
      fc.array(fc.nat({ max: 200 }), { maxLength: 12 }),
      ([, format, text, wanted], cuts) => {
        const places = [
          ...new Set([0, ...cuts.filter((cut) => cut < text.length), text.length]),
        ].sort((a, b) => a - b);
        const pieces = places.slice(1).map((end, index) => text.slice(places[index], end));
        expect(read(format, pieces)).toEqual(wanted);
      },
    ),
    { numRuns: 1000 },
  );
});

test("arguments are told while they come", () => {
  const parser = new ToolCallParser("hermes", { forced: false, callsMax: 8 });
  expect(parser.push('<tool_call>{"name": "f", "argu')).toEqual([
    { type: "call", index: 0, name: "f" },
  ]);
  expect(parser.push('ments": {"a": 1')).toEqual([
    { type: "arguments", index: 0, text: '{"a": 1' },
  ]);
  expect(parser.push("}")).toEqual([{ type: "arguments", index: 0, text: "}" }]);
});

test("one call where one is wanted", () => {
  const text = cases[2]?.[2] ?? "";
  expect(read("hermes", [text], { forced: false, callsMax: 1 }).calls).toEqual([weather]);
});

test("no text breaks the parser, and nothing that is no call is lost but white space around calls", () => {
  const pieces = fc.constantFrom(
    "<tool_call>",
    "</tool_call>",
    "{",
    "}",
    '"',
    '"name"',
    ": ",
    '"f"',
    ",",
    "[",
    "x",
    "\\",
    "[TOOL_CALLS]",
    "<|python_tag|>",
    " ",
  );
  fc.assert(
    fc.property(
      fc.constantFrom("hermes" as const, "llama3_json" as const, "mistral" as const),
      fc.array(pieces, { maxLength: 20 }),
      (format, parts) => {
        const whole = read(format, [parts.join("")]);
        expect(read(format, parts)).toEqual(whole);
      },
    ),
    { numRuns: 1000 },
  );
});
