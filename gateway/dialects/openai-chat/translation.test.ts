/** A chat completion that is translated and translated back is the same: the canonical form loses nothing of it. */
import fc from "fast-check";
import OpenAI from "openai";
import { expect, test } from "vitest";
import { type AnswerEvent, gatherAnswer } from "../../canonical/answer.ts";
import { writeChatBody } from "../../providers/openai/body.ts";
import { openAiChatFormat } from "../../providers/openai/format.ts";
import type { AnswerHead } from "../dialect.ts";
import { readCanonicalChat } from "./canonical.ts";
import { openAiChat } from "./index.ts";

const format = openAiChatFormat({ samplesMore: true, reasons: true });
const limits = { frameBytesMax: 1 << 20, relayedTextCharsMax: 1 << 20 };
const head: AnswerHead = {
  id: "req_1",
  createdAtMs: 5000,
  nowMs: () => 6000,
  model: "asked",
  request: () => ({}),
  wantsUsage: true,
};

test("a request with everything comes through as it was", () => {
  const body = {
    model: "m",
    messages: [
      { role: "system", content: "Be brief." },
      {
        role: "user",
        content: [
          { type: "text", text: "What is this?" },
          { type: "image_url", image_url: { url: "data:image/png;base64,AAAA", detail: "low" } },
          { type: "input_audio", input_audio: { data: "BBBB", format: "wav" } },
          {
            type: "file",
            file: { filename: "a.pdf", file_data: "data:application/pdf;base64,CC" },
          },
        ],
      },
      {
        role: "assistant",
        content: null,
        tool_calls: [
          { id: "call_1", type: "function", function: { name: "look", arguments: '{"x":1}' } },
          { id: "call_2", type: "custom", custom: { name: "shell", input: "ls" } },
        ],
      },
      { role: "tool", tool_call_id: "call_1", content: "a cat" },
      { role: "tool", tool_call_id: "call_2", content: "b" },
      { role: "system", content: "Now in French." },
      { role: "user", content: "Go on." },
    ],
    stream: true,
    tools: [
      {
        type: "function",
        function: { name: "look", description: "d", parameters: { type: "object" }, strict: true },
      },
      { type: "custom", custom: { name: "shell", description: "e", format: { type: "text" } } },
    ],
    tool_choice: { type: "function", function: { name: "look" } },
    parallel_tool_calls: false,
    response_format: {
      type: "json_schema",
      json_schema: { name: "s", description: "f", schema: { type: "object" }, strict: true },
    },
    max_completion_tokens: 9,
    n: 2,
    temperature: 0.5,
    top_p: 0.9,
    frequency_penalty: 1,
    presence_penalty: -1,
    logit_bias: { "5": 3 },
    seed: 7,
    stop: ["END"],
    logprobs: true,
    top_logprobs: 3,
    user: "u",
    top_k: 4,
    min_p: 0.1,
    reasoning_effort: "low",
    service_tier: "flex",
  };
  const { body: written, dropped } = format.writeBody(readCanonicalChat(body));
  expect(written).toEqual(body);
  expect(dropped).toEqual([]);
});

test("what has no place is named, and what would change the answer is refused by its name", () => {
  const read = readCanonicalChat({
    model: "m",
    messages: [{ role: "user", content: "Hi" }],
    top_k: 3,
    prediction: { type: "content", content: "x" },
    reasoning_effort: "high",
  });
  const { dropped } = writeChatBody(read, { samplesMore: false, reasons: false });
  expect(dropped.sort()).toEqual(["prediction", "reasoning", "topK"]);
  const body = (messages: unknown) => () => readCanonicalChat({ model: "m", messages });
  expect(body([{ role: "user", content: [{ type: "video", video: {} }] }])).toThrow(
    expect.objectContaining({ code: "unsupported_parameter", param: "messages[0].content[0]" }),
  );
  expect(body([{ role: "tool", content: "x" }])).toThrow(
    expect.objectContaining({ param: "messages[0].tool_call_id" }),
  );
});

const usage = {
  prompt_tokens: 10,
  completion_tokens: 5,
  total_tokens: 15,
  prompt_tokens_details: { cached_tokens: 4 },
  completion_tokens_details: { reasoning_tokens: 2 },
};
const frames = (chunks: object[]) =>
  `${chunks.map((chunk) => `data: ${JSON.stringify({ id: "chatcmpl-7", model: "real", ...chunk })}\n\n`).join("")}data: [DONE]\n\n`;
const delta = (value: object, finish_reason: string | null = null) => ({
  choices: [{ index: 0, delta: value, finish_reason }],
});
const call = (fields: object) => delta({ tool_calls: [fields] });
const streamed = frames([
  delta({ role: "assistant", content: "" }),
  delta({ reasoning_content: "hm" }),
  delta({ content: "Hé" }),
  delta({ content: "llo 🦜" }),
  call({ index: 0, id: "call_1", type: "function", function: { name: "look", arguments: "" } }),
  call({ index: 0, function: { arguments: '{"x"' } }),
  call({ index: 0, function: { arguments: ":1}" } }),
  // Another one at the same index, which some upstreams send.
  call({ index: 0, id: "call_2", type: "function", function: { name: "now", arguments: "" } }),
  delta({}, "stop"),
  { choices: [], usage },
]);

function translate(bytes: Uint8Array, cuts: readonly number[]): string {
  const reader = format.openReader(limits);
  const writer = openAiChat.openWriter(head);
  const events: AnswerEvent[] = [];
  let start = 0;
  for (const cut of [...cuts, bytes.length]) {
    events.push(...reader.push(bytes.subarray(start, cut)));
    start = cut;
  }
  events.push(...reader.close());
  const written = events.map((event) => writer.write(event) ?? new Uint8Array());
  return Buffer.concat([...written, writer.end(undefined) ?? new Uint8Array()]).toString();
}

test("a stream however it is cut becomes the same stream, which the official client understands", async () => {
  const bytes = Buffer.from(streamed);
  const whole = translate(bytes, []);
  fc.assert(
    fc.property(fc.uniqueArray(fc.nat(bytes.length), { maxLength: 8 }), (cuts) => {
      expect(
        translate(
          bytes,
          cuts.sort((a, b) => a - b),
        ),
      ).toBe(whole);
    }),
  );
  const client = new OpenAI({
    apiKey: "k",
    baseURL: "http://localhost",
    fetch: async () => new Response(whole, { headers: { "content-type": "text/event-stream" } }),
  });
  const answer = await client.chat.completions
    .stream({ model: "m", messages: [], stream_options: { include_usage: true } })
    .finalChatCompletion();
  expect(answer).toMatchObject({ id: "chatcmpl-7", model: "real", usage });
  expect(answer.choices).toHaveLength(1);
  expect(answer.choices[0]).toMatchObject({
    finish_reason: "tool_calls",
    message: {
      content: "Héllo 🦜",
      reasoning_content: "hm",
      tool_calls: [
        { id: "call_1", function: { name: "look", arguments: '{"x":1}' } },
        { id: "call_2", function: { name: "now", arguments: "{}" } },
      ],
    },
  });
});

test("a stream that is cut off is told as broken, one that only forgot to say so is not", () => {
  const read = (text: string) => {
    const reader = format.openReader(limits);
    return [...reader.push(Buffer.from(text)), ...reader.close()].at(-1)?.type;
  };
  const chunk = (choice: object) => `data: ${JSON.stringify(choice)}\n\n`;
  expect(read(chunk(delta({ content: "Hi" })))).toBe("error");
  expect(read(chunk(delta({ content: "Hi" }, "stop")))).toBe("end");
  expect(read(`${chunk(delta({ content: "Hi" }))}data: [DONE]\n\n`)).toBe("end");
  expect(read('data: {"error":{"message":"no"}}\n\n')).toBe("error");
});

test("a stop string that vLLM names is known to those who tell it", () => {
  const finish = (stop_reason: unknown) => {
    const reader = format.openReader(limits);
    const chunk = { choices: [{ index: 0, delta: {}, finish_reason: "stop", stop_reason }] };
    return reader.push(Buffer.from(`data: ${JSON.stringify(chunk)}\n\n`)).at(-1);
  };
  expect(finish("END")).toMatchObject({ reason: "stop_sequence", stopSequence: "END" });
  expect(finish(2)).toMatchObject({ reason: "stop" });
  expect(finish({})).toMatchObject({ reason: "stop" });
});

test("a whole answer says the same as its stream", () => {
  const answer = {
    id: "chatcmpl-7",
    object: "chat.completion",
    created: 5,
    model: "real",
    choices: [
      {
        index: 0,
        message: {
          role: "assistant",
          content: "Héllo 🦜",
          refusal: null,
          reasoning_content: "hm",
          reasoning: "hm",
          tool_calls: [
            { id: "call_1", type: "function", function: { name: "look", arguments: '{"x":1}' } },
          ],
        },
        logprobs: null,
        finish_reason: "tool_calls",
      },
    ],
    usage,
  };
  const events = format.readAnswer(Buffer.from(JSON.stringify(answer)));
  expect(openAiChat.writeAnswer(gatherAnswer(events), head)).toEqual(answer);
});

const thinking: AnswerEvent[] = [
  { type: "reasoning", choice: 0, text: "Let me " },
  { type: "reasoning", choice: 0, text: "see." },
  { type: "reasoning_seal", choice: 0, signature: "anthropic:c2ln" },
  { type: "reasoning_seal", choice: 0, encrypted: "openai:gAAAAA", id: "rs_1" },
  { type: "text", choice: 0, text: "It is 🦜 so." },
  {
    type: "citation",
    choice: 0,
    citation: { url: "https://a.example", title: "A", start: 0, end: 5 },
  },
  { type: "citation", choice: 0, citation: { url: "https://b.example" } },
  { type: "finish", choice: 0, reason: "stop" },
];

test("sealed thoughts and citations stand in a message, and come back from it whole", async () => {
  const writer = openAiChat.openWriter(head);
  const written = [...thinking, { type: "end" } as const].map((event) => writer.write(event));
  const stream = Buffer.concat([...written, writer.end(undefined)].filter((bytes) => !!bytes));
  const details: unknown[] = [];
  const annotations: unknown[] = [];
  for (const line of stream.toString().split("\n\n")) {
    if (!line.startsWith("data: {")) continue;
    const delta = JSON.parse(line.slice(6)).choices[0]?.delta ?? {};
    details.push(...(delta.reasoning_details ?? []));
    annotations.push(...(delta.annotations ?? []));
  }
  const { choices } = openAiChat.writeAnswer(gatherAnswer(thinking), head) as {
    choices: { message: { reasoning_details: unknown[]; annotations: unknown[] } }[];
  };
  const message = choices[0]?.message;
  expect(details).toEqual(message?.reasoning_details);
  expect(annotations).toEqual(message?.annotations);
  expect(annotations).toEqual([
    {
      type: "url_citation",
      url_citation: { url: "https://a.example", title: "A", start_index: 0, end_index: 5 },
    },
    {
      type: "url_citation",
      url_citation: { url: "https://b.example", title: "", start_index: 0, end_index: 12 },
    },
  ]);
  const { turns } = readCanonicalChat({
    model: "m",
    messages: [{ role: "user", content: "Go on." }, message],
  });
  expect(turns[1]).toMatchObject({
    parts: [
      { type: "reasoning", text: "Let me see.", signature: "anthropic:c2ln" },
      { type: "reasoning", text: "", encrypted: "openai:gAAAAA", id: "rs_1" },
      { type: "text", text: "It is 🦜 so." },
    ],
  });
});

test("details that others wrote otherwise are taken for what they hold, and do no harm", () => {
  const read = (reasoning_details: unknown) =>
    readCanonicalChat({
      model: "m",
      messages: [
        { role: "user", content: "Hi" },
        { role: "assistant", content: "Hm", reasoning_content: "As text.", reasoning_details },
      ],
    }).turns[1];
  const asText = [
    { type: "reasoning", text: "As text." },
    { type: "text", text: "Hm" },
  ];
  for (const foreign of ["no list", [null, 5, { type: 3 }], [{ type: "reasoning.summary" }], {}]) {
    expect(read(foreign)).toEqual({ role: "assistant", parts: asText });
  }
});
