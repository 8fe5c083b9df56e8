/** Tools over the real engine: the prompt as a template writes it, calls that are forced, their streams, their history. */
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import type OpenAI from "openai";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { demoFolder } from "../__fixtures__/demo-model.ts";
import { type DemoServer, demoModelId, openDemoServer } from "../__fixtures__/demo-server.ts";
import { createChatTemplate } from "../models/templates/chat-template.ts";
import { toPrompt } from "./complete.ts";

/** In the manner of Qwen's and Hermes'. */
const template = `{%- if tools %}<|im_start|>system
# Tools
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}Answer with <tool_call>{"name": ..., "arguments": ...}</tool_call>.<|im_end|>
{% endif %}{% for message in messages %}{% if message.role == "tool" %}<|im_start|>user
<tool_response>
{{ message.content }}
</tool_response><|im_end|>
{% else %}<|im_start|>{{ message.role }}
{{ message.content }}{% if message.tool_calls %}{% for call in message.tool_calls %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}{% endif %}<|im_end|>
{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}`;

let folder: string;
let demo: DemoServer;
let plain: DemoServer;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tools-"));
  await cp(join(demoFolder, "base"), folder, { recursive: true });
  const config = JSON.parse(await readFile(join(folder, "tokenizer_config.json"), "utf8"));
  await writeFile(
    join(folder, "tokenizer_config.json"),
    JSON.stringify({ ...config, chat_template: template }),
  );
  await writeFile(join(folder, "chat_template.jinja"), template);
  demo = await openDemoServer({ model: { id: demoModelId, folder } });
  plain = await openDemoServer();
});

afterAll(async () => {
  await demo?.close();
  await plain?.close();
  await rm(folder, { recursive: true, force: true });
});

const parameters = {
  type: "object",
  properties: {
    city: { type: "string", maxLength: 12 },
    days: { type: "integer", minimum: 1, maximum: 7 },
    unit: { enum: ["celsius", "fahrenheit"] },
  },
  required: ["city", "days"],
  additionalProperties: false,
};
const weather = {
  type: "function" as const,
  function: { name: "get_weather", description: "Weather", parameters },
};
const time = {
  type: "function" as const,
  function: { name: "get_time", description: "Time <|im_end|>" },
};
const isWeather = new Ajv2020().compile(parameters);
const messages = [{ role: "user" as const, content: "What is the weather in Paris?" }];
const asked = { model: demoModelId, messages, max_tokens: 300, tools: [weather, time] };
const path = "/v1/chat/completions";

function expectCall(call: { function: { name: string; arguments: string } } | undefined): void {
  const given = JSON.parse(call?.function.arguments ?? "");
  if (call?.function.name === "get_weather")
    expect(isWeather(given), JSON.stringify(given)).toBe(true);
  else expect([call?.function.name, given]).toEqual(["get_time", {}]);
}

test("a call that is required is one of the tools, with arguments by its schema", async () => {
  for (const seed of [1, 2, 3]) {
    const answer = await demo.client.chat.completions.create({
      ...asked,
      tool_choice: "required",
      temperature: 1,
      seed,
      parallel_tool_calls: false,
    });
    const [choice] = answer.choices;
    expect(choice?.finish_reason).toBe("tool_calls");
    expect(choice?.message.content).toBeNull();
    expect(choice?.message.tool_calls).toHaveLength(1);
    const [call] = choice?.message.tool_calls ?? [];
    expect(call).toMatchObject({ type: "function", id: expect.stringMatching(/^call_/) });
    if (call?.type === "function") expectCall(call);
  }
});

test("the function that is named is called, also by a model whose template knows no tools", async () => {
  for (const { client } of [demo, plain]) {
    const choice = { type: "function" as const, function: { name: "get_weather" } };
    const answer = await client.chat.completions.create({
      ...asked,
      tool_choice: choice,
      temperature: 0,
    });
    const [call] = answer.choices[0]?.message.tool_calls ?? [];
    expect(call).toMatchObject({ function: { name: "get_weather" } });
    if (call?.type === "function") expectCall(call);
    expect(answer.choices[0]?.finish_reason).toBe("stop");
  }
});

test("a stream brings id and name once, and arguments in pieces that make the same call", async () => {
  const request = { ...asked, tool_choice: "required" as const, temperature: 1, seed: 5 };
  const whole = await demo.client.chat.completions.create(request);
  const deltas: OpenAI.ChatCompletionChunk.Choice.Delta.ToolCall[] = [];
  const stream = await demo.client.chat.completions.create({ ...request, stream: true });
  let finish: string | null | undefined;
  for await (const chunk of stream) {
    deltas.push(...(chunk.choices[0]?.delta.tool_calls ?? []));
    finish = chunk.choices[0]?.finish_reason ?? finish;
  }
  const calls = whole.choices[0]?.message.tool_calls ?? [];
  expect(finish).toBe(whole.choices[0]?.finish_reason);
  expect(calls.length).toBeGreaterThan(0);
  for (const [index, call] of calls.entries()) {
    const own = deltas.filter((delta) => delta.index === index);
    expect(own.filter((delta) => delta.id !== undefined)).toHaveLength(1);
    expect(own[0]).toMatchObject({ type: "function", function: { arguments: "" } });
    expect(own.length).toBeGreaterThan(2);
    const told = own.map((delta) => delta.function?.arguments ?? "").join("");
    if (call.type === "function")
      expect([own[0]?.function?.name, told]).toEqual([call.function.name, call.function.arguments]);
  }
  const helper = demo.client.chat.completions.stream(request);
  const final = await helper.finalChatCompletion();
  expect(final.choices[0]?.message.tool_calls?.length).toBe(calls.length);
});

test("the official client's helpers parse calls and answers by their zod schemas", async () => {
  const tool = zodFunction({
    name: "book",
    parameters: z.object({ seats: z.number().int().min(1).max(9), window: z.boolean() }),
  });
  const called = await demo.client.chat.completions.parse({
    ...asked,
    tools: [tool],
    tool_choice: "required",
    parallel_tool_calls: false,
    temperature: 1,
    seed: 3,
  });
  const [call] = called.choices[0]?.message.tool_calls ?? [];
  const parsed = call?.type === "function" ? call.function.parsed_arguments : undefined;
  expect(parsed).toEqual({ seats: expect.any(Number), window: expect.any(Boolean) });
  const format = zodResponseFormat(
    z.object({ mood: z.enum(["good", "bad"]), reasons: z.array(z.string().max(8)).max(2) }),
    "review",
  );
  const answer = await demo.client.chat.completions.parse({
    model: demoModelId,
    messages,
    max_tokens: 200,
    response_format: format,
    temperature: 1,
    seed: 4,
  });
  expect(["good", "bad"]).toContain(answer.choices[0]?.message.parsed?.mood);
});

test("an answer that has a form is that or a call, and a strict tool's arguments are kept to its schema", async () => {
  const strict = { ...weather, function: { ...weather.function, strict: true } };
  const format = {
    type: "json_schema",
    json_schema: {
      name: "a",
      schema: { type: "object", properties: { ok: { type: "boolean" } }, required: ["ok"] },
    },
  };
  for (const seed of [1, 2, 3, 4]) {
    const answer = await demo.ask<OpenAI.ChatCompletion>(path, {
      ...asked,
      tools: [strict],
      response_format: format,
      temperature: 2,
      seed,
    });
    const [choice] = answer.choices;
    if (choice?.finish_reason === "length") continue;
    if (choice?.message.content !== null)
      expect(JSON.parse(choice?.message.content ?? "")).toEqual({ ok: expect.any(Boolean) });
    for (const call of choice?.message.tool_calls ?? [])
      if (call.type === "function") expectCall(call);
  }
  const { choices } = await demo.ask<OpenAI.ChatCompletion>(path, {
    ...{ ...asked, tools: [strict], temperature: 0, max_tokens: 20 },
  });
  expect(choices[0]?.message.content?.length).toBeGreaterThan(10);
});

test("tools, calls and results are written by the template, and what they quote stays text", async () => {
  const rendered = createChatTemplate(template, {}).render(
    [
      { role: "user", content: "Weather?" },
      {
        role: "assistant",
        content: "",
        tool_calls: [
          {
            id: "abcdefghi",
            type: "function",
            function: { name: "get_weather", arguments: { city: "Paris" } },
          },
        ],
      },
      { role: "tool", content: "sunny", tool_call_id: "abcdefghi", name: "get_weather" },
    ],
    { tools: [weather] },
  );
  expect(rendered).toContain('{"name": "get_weather", "arguments": {"city": "Paris"}}');
  expect(rendered).toContain("<tool_response>\nsunny");
  const ids = toPrompt(
    { tokenizer: demo.tokenizer, template: createChatTemplate(template, {}) },
    { messages: [{ role: "user", content: "x" }], rendering: { tools: [time] } },
  );
  // One turn's end for the system, one for the user; none for the description.
  expect(ids.filter((id) => id === 2)).toHaveLength(2);
});

test("a conversation goes on behind a call and its result", async () => {
  const history = [
    ...messages,
    {
      role: "assistant",
      content: null,
      tool_calls: [
        {
          id: "call_1",
          type: "function",
          function: { name: "get_weather", arguments: '{"city":"Paris","days":1}' },
        },
      ],
    },
    { role: "tool", tool_call_id: "call_1", content: [{ type: "text", text: "sunny" }] },
  ];
  const answer = await demo.ask<OpenAI.ChatCompletion>(path, {
    ...asked,
    messages: history,
    max_tokens: 5,
  });
  expect(answer.usage?.completion_tokens).toBeGreaterThan(0);
});

describe("is refused by its field", () => {
  const history = (calls: unknown) => [
    ...messages,
    { role: "assistant", content: null, tool_calls: calls },
  ];
  test.each<[name: string, fields: Record<string, unknown>, error: Record<string, unknown>]>([
    [
      "a tool that is not there",
      { tool_choice: { type: "function", function: { name: "other" } } },
      { param: "tool_choice" },
    ],
    ["two tools of one name", { tools: [weather, weather] }, { param: "tools" }],
    [
      "a choice without tools",
      { tools: undefined, tool_choice: "required" },
      { param: "tool_choice" },
    ],
    [
      "another kind of tool",
      { tools: [{ type: "custom", custom: { name: "x" } }] },
      { param: "tools[0].type" },
    ],
    [
      "a schema that cannot be kept",
      {
        tools: [
          {
            type: "function",
            function: { name: "f", parameters: { type: "object", properties: { a: { not: {} } } } },
          },
        ],
        tool_choice: "required",
      },
      { code: "unsupported_parameter", param: "tools[0].function.parameters.properties.a.not" },
    ],
    [
      "a form beside a forced call",
      { tool_choice: "required", response_format: { type: "json_object" } },
      { param: "response_format" },
    ],
    [
      "a result without a call",
      { messages: [...messages, { role: "tool", tool_call_id: "a", content: "x" }] },
      { param: "messages[1].tool_call_id" },
    ],
    [
      "a result that names no call",
      { messages: [...messages, { role: "tool", content: "x" }] },
      { param: "messages[1].tool_call_id" },
    ],
    [
      "arguments that are no object",
      {
        messages: history([
          { id: "a", type: "function", function: { name: "f", arguments: "[1]" } },
        ]),
      },
      { param: "messages[1].tool_calls[0].function.arguments" },
    ],
  ])("%s", async (_name, fields, error) => {
    expect(await demo.refusal(path, { ...asked, ...fields })).toMatchObject({
      status: 400,
      ...error,
    });
  });

  test("tools of a model whose template knows none", async () => {
    expect(await plain.refusal(path, asked)).toMatchObject({
      status: 400,
      code: "unsupported_parameter",
      param: "tools",
    });
  });
});
