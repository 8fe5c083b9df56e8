/** A text that is answered as a chat, and an answer that is told as a text. */
import { expect, test } from "vitest";
import { type AnswerEvent, gatherAnswer } from "../../canonical/answer.ts";
import type { AnswerHead } from "../dialect.ts";
import { CompletionWriter, writeCompletion } from "./answer.ts";
import { readCanonicalCompletion } from "./canonical.ts";

const head: AnswerHead = {
  id: "req_1",
  createdAtMs: 5000,
  nowMs: () => 6000,
  model: "asked",
  request: () => ({}),
  wantsUsage: true,
};

test("a prompt is what a user says, within OpenAI's default length", () => {
  expect(readCanonicalCompletion({ model: "m", prompt: "Hi" })).toMatchObject({
    turns: [{ role: "user", parts: [{ type: "text", text: "Hi" }] }],
    outputTokensMax: 16,
    choices: 1,
    stop: [],
    rest: {},
  });
  const more = { max_tokens: 5, n: 2, best_of: 2, stop: "\n", temperature: 0, echo: false };
  expect(readCanonicalCompletion({ model: "m", prompt: ["Hi"], ...more, x: 1 })).toMatchObject({
    outputTokensMax: 5,
    choices: 2,
    stop: ["\n"],
    temperature: 0,
    rest: { x: 1 },
  });
});

test.each([
  ["prompt", { prompt: ["one", "two"] }],
  ["prompt", { prompt: [1, 2, 3] }],
  ["echo", { prompt: "Hi", echo: true }],
  ["suffix", { prompt: "Hi", suffix: "end" }],
  ["logprobs", { prompt: "Hi", logprobs: 0 }],
  ["best_of", { prompt: "Hi", best_of: 3 }],
])("'%s' is refused by name where a chat has no place for it", (param, fields) => {
  expect(() => readCanonicalCompletion({ model: "m", ...fields })).toThrow(
    expect.objectContaining({ code: "unsupported_parameter", param }),
  );
});

test("a stream says the same as a whole answer, without what was thought", () => {
  const events: AnswerEvent[] = [
    { type: "start", id: "chatcmpl-7", model: "m-1" },
    { type: "reasoning", choice: 0, text: "Hm." },
    { type: "text", choice: 0, text: "Hello " },
    { type: "text", choice: 1, text: "Hi" },
    { type: "text", choice: 0, text: "there 🦜" },
    { type: "finish", choice: 0, reason: "length" },
    { type: "finish", choice: 1, reason: "tool_calls" },
    { type: "usage", usage: { usage: { input: 3, output: 4 }, inconsistent: false } },
  ];
  const writer = new CompletionWriter(head);
  const written = [...events.map((event) => writer.write(event)), writer.end(undefined)];
  const chunks = Buffer.concat(written.filter((bytes) => !!bytes))
    .toString()
    .split("\n\n")
    .filter((frame) => frame.startsWith("data: {"))
    .map((frame) => JSON.parse(frame.slice(6)));
  const whole = writeCompletion(gatherAnswer(events), head) as {
    choices: { index: number; text: string; finish_reason: string }[];
    usage: object;
  };
  expect(whole).toMatchObject({
    id: "cmpl-7",
    object: "text_completion",
    model: "m-1",
    choices: [
      { text: "Hello there 🦜", finish_reason: "length", logprobs: null },
      { text: "Hi", finish_reason: "stop" },
    ],
  });
  for (const choice of whole.choices) {
    const own = chunks.flatMap((chunk) => chunk.choices).filter((c) => c.index === choice.index);
    expect(own.map(({ text }) => text).join("")).toBe(choice.text);
    expect(own.map((c) => c.finish_reason).filter(Boolean)).toEqual([choice.finish_reason]);
  }
  expect(chunks.at(-1)).toMatchObject({ choices: [], usage: whole.usage });
});
