/** Incompatibilities 24 to 26 and 47: the Responses API before upstreams that speak it and before those that do not. */
import type OpenAI from "openai";
import { expect, test } from "vitest";
import { call, createTenant } from "../../support/api.ts";
import { type Case, seeError, testCases } from "./cases.ts";
import { begin, chunk, done, either, frames, speak, whole } from "./wire.ts";

const input = "Hello";
const tools = [
  {
    type: "function" as const,
    name: "weather",
    strict: false,
    parameters: { type: "object", properties: { city: { type: "string" } } },
  },
];
const longId = `call_${"x".repeat(100)}`;
const paris = '{"city":"Paris"}';
const calling = {
  id: longId,
  type: "function",
  function: { name: "weather", arguments: paris },
};

/** Its kind of each event, and whether they are numbered without gaps. */
async function seeEvents(client: OpenAI, model: string) {
  const stream = await client.responses.create({ model, input, tools, stream: true });
  const types: string[] = [];
  const numbers: number[] = [];
  for await (const event of stream) {
    if (types.at(-1) !== event.type) types.push(event.type);
    numbers.push(event.sequence_number);
  }
  return { types, numbered: numbers.every((number, at) => number === at) };
}

const cases: Case[] = [
  {
    name: "24: a response's events come in the order that both helpers insist on",
    upstreams: ["openai", "compatible"],
    upstream: frames(
      begin,
      chunk({ reasoning_content: "hm" }),
      chunk({ content: "It is " }),
      chunk({ content: "warm." }),
      chunk({ tool_calls: [{ index: 0, ...calling, id: "call_1" }] }),
      chunk({}, "tool_calls"),
      done,
    ),
    see: async (client, model) => {
      const final = await client.responses.stream({ model, input, tools }).finalResponse();
      return {
        ...(await seeEvents(client, model)),
        text: final.output_text,
        items: final.output.map(({ type }) => type),
        status: final.status,
      };
    },
    expected: {
      types: [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
      ],
      numbered: true,
      text: "It is warm.",
      items: ["reasoning", "message", "function_call"],
      status: "completed",
    },
  },
  {
    name: "25.1: an upstream's long id of a call is one that the API allows, and comes back",
    upstreams: ["openai", "compatible"],
    upstream: (response, request) => {
      const answered = request.body.messages.some(({ role }: { role: string }) => role === "tool");
      const answer = answered
        ? speak("21 degrees")
        : either(
            frames(
              begin,
              chunk({ tool_calls: [{ index: 0, ...calling }] }),
              chunk({}, "tool_calls"),
              done,
            ),
            whole({ tool_calls: [calling] }, "tool_calls"),
          );
      answer(response, request);
    },
    see: async (client, model) => {
      const first = await client.responses.create({ model, input, tools });
      const [item] = first.output;
      const call_id = item?.type === "function_call" ? item.call_id : "";
      const second = await client.responses.create({
        model,
        tools,
        previous_response_id: first.id,
        input: [{ type: "function_call_output", call_id, output: "21" }],
      });
      return [call_id.length <= 64, second.output_text];
    },
    expected: [true, "21 degrees"],
    sent(requests) {
      const [, call, result] = requests.at(-1)?.body.messages ?? [];
      expect(call.tool_calls[0].id).toBe(result.tool_call_id);
    },
  },
  {
    name: "25.2: a client's long id from elsewhere reaches no upstream that refuses it",
    upstreams: ["openai", "compatible"],
    upstream: speak("21 degrees"),
    see: async (client, model) =>
      (
        await client.responses.create({
          model,
          tools,
          input: [
            { role: "user", content: input },
            { type: "function_call", call_id: longId, name: "weather", arguments: paris },
            { type: "function_call_output", call_id: longId, output: "21" },
          ],
        })
      ).output_text,
    expected: "21 degrees",
    sent([request]) {
      const [, call, result] = request?.body.messages ?? [];
      expect(call.tool_calls[0].id.length).toBeLessThanOrEqual(64);
      expect(call.tool_calls[0].id).toBe(result.tool_call_id);
    },
  },
  {
    name: "26.1: a response that is continued is told with what came before",
    upstreams: ["openai", "compatible"],
    upstream: speak("fine"),
    see: async (client, model) => {
      const first = await client.responses.create({ model, input: "My name is Ada." });
      const second = await client.responses.create({
        model,
        input: "What is my name?",
        previous_response_id: first.id,
      });
      return [second.output_text, second.previous_response_id === first.id];
    },
    expected: ["fine", true],
    sent(requests) {
      expect(requests.at(-1)?.body.messages).toMatchObject([
        { role: "user", content: "My name is Ada." },
        { role: "assistant", content: "fine" },
        { role: "user", content: "What is my name?" },
      ]);
    },
  },
  {
    name: "26.2: a response that is not there cannot be continued",
    upstream: speak("never"),
    see: (client, model) =>
      seeError(() =>
        client.responses.create({ model, input, previous_response_id: "resp_not_there" }),
      ),
    expected: {
      class: "BadRequestError",
      status: 400,
      code: "previous_response_not_found",
      param: "previous_response_id",
    },
  },
  {
    name: "47: a response that is removed is gone",
    upstream: speak("fine"),
    see: async (client, model) => {
      const { id } = await client.responses.create({ model, input });
      await client.responses.delete(id);
      return seeError(() => client.responses.retrieve(id));
    },
    expected: { class: "NotFoundError", status: 404 },
  },
];

testCases(cases, {
  more(stage) {
    test("26: another project's response is as good as none", async () => {
      const { server, url } = stage();
      const ask = (key: string, body: object) =>
        call(url, key, "POST", "/responses", { model: "26.2/openai", input, ...body });
      const { body } = await ask(server.apiKey, {});
      const { key } = await createTenant(server.url, server.adminKey, "neighbour");
      const { id } = body as { id: string };
      const theirs = await ask(key, { previous_response_id: id });
      const nobodys = await ask(key, { previous_response_id: "resp_not_there" });
      expect(theirs.status).toBe(400);
      const told = JSON.stringify(theirs.body).replaceAll(id, "resp_not_there");
      expect(JSON.parse(told)).toEqual(nobodys.body);
    });

    test("47: removing a response answers with JSON", async () => {
      const { server, url } = stage();
      const { body } = await call(url, server.apiKey, "POST", "/responses", {
        model: "26.2/openai",
        input,
      });
      const { id } = body as { id: string };
      const removed = await call(url, server.apiKey, "DELETE", `/responses/${id}`);
      expect(removed).toMatchObject({
        status: 200,
        body: { id, object: "response", deleted: true },
      });
      expect(removed.headers.get("content-type")).toMatch(/^application\/json/);
    });
  },
});
