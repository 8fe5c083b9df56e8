/** Results of tools in a conversation's history, and the calls that they answer. */
import { expect, test } from "vitest";
import { toTemplateMessages } from "./request.ts";

const call = (id: string, name: string) => ({
  role: "assistant" as const,
  tool_calls: [{ id, type: "function", function: { name, arguments: "{}" } }],
});
const result = (id: string) => ({ role: "tool" as const, content: "1", tool_call_id: id });
const namesOf = (messages: Parameters<typeof toTemplateMessages>[0]) =>
  toTemplateMessages(messages, { knowsTools: true }).map(({ name }) => name);

test("a result answers the last call of its id, since some clients count from 0 in each turn", () => {
  const messages = [call("0", "first"), result("0"), call("0", "second"), result("0")];
  expect(namesOf(messages)).toEqual([undefined, "first", undefined, "second"]);
});

test("a result that answers no call before it is refused", () => {
  expect(() => namesOf([result("0"), call("0", "first")])).toThrow(/preceding message/);
});

test("arguments that are nested without end are the client's mistake", () => {
  const message = call("0", "first");
  const deep = `${'{"a":'.repeat(5000)}1${"}".repeat(5000)}`;
  const tool_calls = message.tool_calls.map((one) => ({
    ...one,
    function: { ...one.function, arguments: deep },
  }));
  expect(() => namesOf([{ ...message, tool_calls }])).toThrow(/levels deep/);
});
