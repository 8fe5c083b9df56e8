/** Tools of free text as functions, there and back. */
import { expect, test } from "vitest";
import type { AnswerEvent } from "./answer.ts";
import { asFunctions, FreeTextCalls } from "./free-text-tools.ts";
import type { CanonicalRequest } from "./request.ts";

const shell = { type: "custom" as const, name: "shell", description: "Runs it." };
const look = { type: "function" as const, name: "look" };
const request = (more: Partial<CanonicalRequest>): CanonicalRequest => ({
  model: "m",
  instructions: [],
  turns: [],
  tools: [],
  choices: 1,
  stop: [],
  stream: false,
  rest: {},
  ...more,
});

test("a tool and its earlier calls become a function of one text", () => {
  const call = { type: "tool_call" as const, id: "c1", name: "shell", arguments: 'echo "ö"' };
  const { request: asked, names } = asFunctions(
    request({
      tools: [look, shell],
      turns: [{ role: "assistant", parts: [{ ...call, custom: true }] }],
    }),
  );
  expect([...names]).toEqual(["shell"]);
  expect(asked.tools).toMatchObject([
    look,
    { type: "function", name: "shell", parameters: { required: ["input"] } },
  ]);
  expect(asked.turns).toEqual([
    { role: "assistant", parts: [{ ...call, arguments: '{"input":"echo \\"ö\\""}' }] },
  ]);
});

test("a request without any is the same one", () => {
  const asked = request({ tools: [look] });
  expect(asFunctions(asked).request).toBe(asked);
});

test("a text that has to follow a grammar is refused by the tool's name", () => {
  const format = { type: "grammar", grammar: { syntax: "regex", definition: "a*" } };
  const bound = request({ tools: [{ ...shell, format }] });
  expect(() => asFunctions(bound)).toThrow(
    expect.objectContaining({ code: "unsupported_parameter", param: "tools" }),
  );
  const free = request({ tools: [{ ...shell, format: { type: "text" } }] });
  expect(() => asFunctions(free)).not.toThrow();
});

test("calls of several tools that are written in turns are each given back whole", () => {
  const calls = new FreeTextCalls(new Set(["shell"]));
  const begin = (call: number, name: string): AnswerEvent => ({
    type: "tool_call",
    choice: 0,
    call,
    id: `c${call}`,
    name,
  });
  const argue = (call: number, text: string): AnswerEvent => ({
    type: "tool_arguments",
    choice: 0,
    call,
    text,
  });
  const finish: AnswerEvent = { type: "finish", choice: 0, reason: "tool_calls" };
  const events = [
    [begin(0, "shell"), begin(1, "look"), argue(0, '{"inp')],
    [argue(1, "{}"), begin(2, "shell"), argue(0, 'ut":"ls"}'), argue(2, '{"input":"cut o')],
    [finish],
  ].flatMap((some) => calls.read(some));
  expect(events).toEqual([
    { ...begin(0, "shell"), custom: true },
    begin(1, "look"),
    argue(1, "{}"),
    { ...begin(2, "shell"), custom: true },
    argue(0, "ls"),
    argue(2, '{"input":"cut o'),
    finish,
  ]);
});
