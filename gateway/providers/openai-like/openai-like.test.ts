/** Upstreams that nearly speak chat completions: what they are sent, and what becomes of what they send. */
import OpenAI from "openai";
import { describe, expect, test } from "vitest";
import type { AnswerHead } from "../../dialects/dialect.ts";
import { readCanonicalChat } from "../../dialects/openai-chat/canonical.ts";
import { openAiChat } from "../../dialects/openai-chat/index.ts";
import { readOpenAiError } from "../openai/errors.ts";
import { openAiChatFormat } from "../openai/format.ts";
import { quirks } from "./quirks.ts";

const messages = [{ role: "user", content: "Hi" }];
const write = (vendor: keyof typeof quirks, body: object) =>
  openAiChatFormat(quirks[vendor].body).writeBody(
    readCanonicalChat({ model: "m", messages, ...body }),
  );

describe("requests", () => {
  test("fields go by the vendor's names, and what it lacks is told", () => {
    const { body, dropped } = write("mistral", {
      messages: [
        { role: "developer", content: "Be brief." },
        ...messages,
        {
          role: "assistant",
          tool_calls: [
            { id: "call_long_id", type: "function", function: { name: "f", arguments: "{}" } },
          ],
        },
        { role: "tool", tool_call_id: "call_long_id", content: "x" },
      ],
      max_completion_tokens: 5,
      seed: 7,
      temperature: 2,
      tools: [{ type: "function", function: { name: "f" } }],
      tool_choice: "required",
      user: "u",
      store: true,
      service_tier: "flex",
      prediction: {},
    });
    expect(body).toMatchObject({
      max_tokens: 5,
      random_seed: 7,
      temperature: 1.5,
      tool_choice: "any",
    });
    const sent = body.messages as {
      role: string;
      tool_call_id: string;
      tool_calls: { id: string }[];
    }[];
    expect(sent.map(({ role }) => role)).toEqual(["system", "user", "assistant", "tool"]);
    expect(sent[3]?.tool_call_id).toMatch(/^[a-z0-9]{9}$/);
    expect(sent[2]?.tool_calls[0]?.id).toBe(sent[3]?.tool_call_id);
    expect(dropped.sort()).toEqual(["prediction", "service_tier", "store", "temperature", "user"]);
    expect(write("together", { top_k: 3, repetition_penalty: 1.1 })).toMatchObject({
      body: { top_k: 3, repetition_penalty: 1.1 },
      dropped: [],
    });
  });

  test("what would be missed is refused by its name", () => {
    const refused = (vendor: keyof typeof quirks, body: object) => () => write(vendor, body);
    const by = (param: string) => expect.objectContaining({ code: "unsupported_parameter", param });
    expect(refused("groq", { n: 2 })).toThrow(by("n"));
    expect(refused("ollama", { n: 2 })).toThrow(by("n"));
    expect(refused("mistral", { logprobs: true })).toThrow(by("logprobs"));
    const schema = { type: "json_schema", json_schema: { name: "s", schema: {} } };
    expect(refused("deepseek", { response_format: schema })).toThrow(by("response_format"));
    const image = { type: "image_url", image_url: { url: "https://x/y.png" } };
    expect(refused("deepseek", { messages: [{ role: "user", content: [image] }] })).toThrow(
      by("messages"),
    );
  });

  test("thoughts go back to whom needs them", () => {
    const thought = { role: "assistant", content: "4", reasoning_content: "2+2" };
    const { body } = write("deepseek", { messages: [...messages, thought, ...messages] });
    expect(body.messages).toContainEqual(thought);
  });
});

const head: AnswerHead = {
  id: "req_1",
  createdAtMs: 5000,
  nowMs: () => 5000,
  model: "m",
  request: () => ({}),
  wantsUsage: true,
};

/** What the official client makes of an upstream's frames after they were mended. */
async function mended(...frames: (object | string)[]) {
  const text = frames
    .map((frame) => (typeof frame === "string" ? frame : `data: ${JSON.stringify(frame)}\n\n`))
    .join("");
  const limits = { frameBytesMax: 1 << 20, relayedTextCharsMax: 1 << 20 };
  const reader = openAiChatFormat(quirks.azure.body).openReader(limits);
  const writer = openAiChat.openWriter(head);
  const events = [...reader.push(Buffer.from(text)), ...reader.close()];
  const bytes = [...events.map((event) => writer.write(event)), writer.end(undefined)];
  const body = Buffer.concat(bytes.map((one) => one ?? new Uint8Array()));
  const client = new OpenAI({
    apiKey: "k",
    baseURL: "http://localhost",
    fetch: async () => new Response(body, { headers: { "content-type": "text/event-stream" } }),
  });
  const answer = await client.chat.completions
    .stream({ model: "m", messages: [], stream_options: { include_usage: true } })
    .finalChatCompletion();
  return {
    ...answer.choices[0]?.message,
    finish: answer.choices[0]?.finish_reason,
    usage: answer.usage,
  };
}
const chunk = (delta: object | undefined, more: object = {}) => ({
  id: "1",
  choices: [{ index: 0, ...(delta && { delta }), finish_reason: null, ...more }],
});
const end = chunk({}, { finish_reason: "stop" });
const done = "data: [DONE]\n\n";
const usage = { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 };

describe("streams", () => {
  test("Azure's filter results are no answers", async () => {
    const filtered = { id: "", model: "", created: 0, choices: [], prompt_filter_results: [{}] };
    const late = chunk(undefined, { content_filter_results: {}, content_filter_offsets: {} });
    expect(
      await mended(filtered, chunk({ role: "assistant", content: "Hi" }), late, end, done),
    ).toMatchObject({ content: "Hi", finish: "stop" });
  });

  test("Mistral's parts are text and thoughts", async () => {
    const content = [
      { type: "thinking", thinking: [{ type: "text", text: "hm" }] },
      { type: "text", text: "Hi" },
    ];
    expect(await mended(chunk({ content }), end, done)).toMatchObject({
      content: "Hi",
      reasoning_content: "hm",
    });
  });

  test("calls without an index, or all with the same, are told apart", async () => {
    const call = (id: string, more: object = {}) => ({
      ...more,
      id,
      type: "function",
      function: { name: "f", arguments: '{"a":1}' },
    });
    const two = { tool_calls: [{ id: "a" }, { id: "b" }], finish: "tool_calls" };
    expect(
      await mended(
        chunk({ tool_calls: [call("a")] }),
        chunk({ tool_calls: [call("b")] }),
        end,
        done,
      ),
    ).toMatchObject(two);
    const same = [call("a", { index: 0 }), call("b", { index: 0 })];
    expect(await mended(chunk({ tool_calls: same }), end, done)).toMatchObject(two);
    const object = { id: "a", index: 0, function: { name: "f", arguments: { a: 1 } } };
    expect(await mended(chunk({ tool_calls: [object] }), end, done)).toMatchObject({
      tool_calls: [{ function: { arguments: '{"a":1}' } }],
    });
  });

  test("usage is found where Groq puts it, roles that come again and keep-alives are left out", async () => {
    const last = { ...end, x_groq: { usage } };
    const again = { role: "assistant", content: "H" };
    const frames = [
      chunk(again),
      ": PROCESSING\n\n",
      chunk({ ...again, content: "i" }),
      last,
      done,
    ];
    expect(await mended(...frames)).toMatchObject({
      role: "assistant",
      content: "Hi",
      usage: { total_tokens: 5 },
    });
  });
});

test("errors without an envelope are read in their own words", () => {
  const read = (status: number, body: object) =>
    readOpenAiError({ status, header: () => undefined }, Buffer.from(JSON.stringify(body)), "up");
  expect(read(400, { object: "error", message: "no such voice", type: "invalid" }).message).toBe(
    "no such voice",
  );
  expect(
    read(422, { detail: [{ type: "extra_forbidden", loc: ["body"], msg: "Extra" }] }),
  ).toMatchObject({ message: "Extra", status: 400 });
});
