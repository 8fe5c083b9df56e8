/** Grammars of calls take what the parser reads as such, and among text nothing else behind a call's mark. */
import { expect, test } from "vitest";
import { accepts } from "../grammar/__fixtures__/accepts.ts";
import { newGrammarText } from "../grammar/__fixtures__/grammar-text.ts";
import { callsAmongText, callsExpression } from "./call-grammar.ts";
import { type Tool, type ToolFormat, toolFormatOf, toolFormats } from "./formats.ts";
import { ToolCallParser } from "./tool-call-parser.ts";

const tools: Tool[] = [
  {
    name: "add",
    parameters: {
      type: "object",
      properties: { a: { type: "integer" }, b: { type: "integer" } },
      required: ["a"],
    },
    strict: true,
    param: "tools[0].function.parameters",
  },
  { name: "now", strict: false, param: "tools[1].function.parameters" },
];

const call = (object: string) => `<tool_call>\n${object}\n</tool_call>`;
const add = '{"name": "add", "arguments": {"a": 1}}';
const now = '{"name": "now", "arguments": {}}';

test("among text a mark is followed by a call of a tool", async () => {
  const text = newGrammarText();
  const grammar = text.grammar(callsAmongText(text, { tools, format: "hermes", callsMax: 8 }));
  const taken = [
    "",
    "Hello <tool>, < <tool_cal",
    "é<<tool_cal<to 中",
    call(add),
    `Well: ${call(add)}\n${call(now)} done`,
  ];
  const not = [
    "<tool_call>",
    call('{"name": "sub", "arguments": {}}'),
    call('{"name": "add", "arguments": {"a": "1"}}'),
    `<${call("{}")}`,
    `<tool_<tool_call>oops`,
  ];
  expect(await accepts(grammar, [...taken, ...not])).toEqual([
    ...taken.map(() => true),
    ...not.map(() => false),
  ]);
});

test("after the only call that is wanted nothing follows", async () => {
  const text = newGrammarText();
  const grammar = text.grammar(callsAmongText(text, { tools, format: "hermes", callsMax: 1 }));
  expect(await accepts(grammar, [`a ${call(now)}`, `a ${call(now)} b`])).toEqual([true, false]);
});

test.each(toolFormats)("what is forced in %s, its parser reads", async (format: ToolFormat) => {
  const name = format === "llama3_json" ? "parameters" : "arguments";
  const objects = [
    `{"name": "add", "${name}": {"a": 1, "b": -2}}`,
    `{"name": "now", "${name}": {}}`,
  ];
  const [one = "", two = ""] = objects;
  for (const [callsMax, written] of [
    [1, format === "hermes" ? call(one) : one],
    [8, format === "hermes" ? `${call(one)}\n${call(two)}` : `[${one}, ${two}]`],
  ] as const) {
    const text = newGrammarText();
    const grammar = text.grammar(callsExpression(text, { tools, format, callsMax }));
    expect(await accepts(grammar, [written, `${written} `])).toEqual([true, false]);
    const parser = new ToolCallParser(format, { forced: true, callsMax });
    const events = [...parser.push(written), ...parser.flush()];
    expect(events.filter((event) => event.type === "text")).toEqual([]);
    expect(events.slice(0, 2)).toEqual([
      { type: "call", index: 0, name: "add" },
      { type: "arguments", index: 0, text: '{"a": 1, "b": -2}' },
    ]);
    expect(parser.calls).toBe(callsMax === 1 ? 1 : 2);
  }
});

test.each([
  ["{% if tools %}<tool_call>{% endif %}", "hermes"],
  ["{% if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS]", "mistral"],
  [
    '{% if tools is not none %}<|python_tag|>{"name": x, "parameters": y}{% endif %}',
    "llama3_json",
  ],
  ["{% for message in messages %}{{ message.content }}{% endfor %}", undefined],
])("%s teaches its format", (source, format) => {
  expect(toolFormatOf(source)).toBe(format);
});
