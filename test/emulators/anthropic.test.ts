/** The emulator against Anthropic's own SDK: what that cannot read is emulated wrongly. */
import Anthropic from "@anthropic-ai/sdk";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type AnthropicEmulator, startAnthropicEmulator } from "./anthropic.ts";

const content = [
  { type: "thinking", thinking: "Let me see.", signature: "c2lnbmVk" },
  { type: "redacted_thinking", data: "aGlkZGVu" },
  {
    type: "text",
    text: "Hello, wörld 🦜",
    citations: [
      {
        type: "char_location",
        cited_text: "Hello",
        document_index: 0,
        document_title: "a",
        start_char_index: 0,
        end_char_index: 5,
        file_id: null,
      },
    ],
  },
  { type: "tool_use", id: "toolu_1", name: "look", input: { x: [1, "ö"] } },
  { type: "tool_use", id: "toolu_2", name: "now", input: {} },
];
const usage = {
  input_tokens: 10,
  cache_read_input_tokens: 4,
  cache_creation_input_tokens: 3,
  output_tokens: 7,
  output_tokens_details: { thinking_tokens: 2 },
};

let emulator: AnthropicEmulator;
let client: Anthropic;
beforeAll(async () => {
  emulator = await startAnthropicEmulator({ apiKey: "key", answer: () => ({ content, usage }) });
  client = new Anthropic({
    apiKey: "key",
    baseURL: emulator.baseUrl.replace("/v1", ""),
    maxRetries: 0,
  });
});
afterAll(() => emulator.close());

const ask = (model: string, more: object = {}) => ({
  model,
  max_tokens: 100,
  messages: [{ role: "user" as const, content: "Hi there" }],
  ...more,
});

test("a whole message and a stream of it say the same", async () => {
  const whole = await client.messages.create(ask("m"));
  expect(whole).toMatchObject({ content, usage, stop_reason: "tool_use", role: "assistant" });
  for (const model of ["m", "m!split", "m!crlf"]) {
    const streamed = await client.messages.stream(ask(model)).finalMessage();
    const { id: _one, _request_id: _other, ...said } = whole;
    expect(JSON.parse(JSON.stringify(streamed))).toMatchObject(JSON.parse(JSON.stringify(said)));
  }
});

test("tokens are counted", async () => {
  const { messages } = ask("m");
  const counted = await client.messages.countTokens({ model: "m", system: "Be brief.", messages });
  expect(counted.input_tokens).toBe(4);
});

test("its errors are of the SDK's own classes, in a stream too", async () => {
  const failures: [object, unknown, object][] = [
    [ask("m!overloaded"), Anthropic.InternalServerError, { status: 529, type: "overloaded_error" }],
    [ask("m!rate-limit"), Anthropic.RateLimitError, { status: 429, type: "rate_limit_error" }],
    [ask("m", { temperature: 2 }), Anthropic.BadRequestError, { type: "invalid_request_error" }],
    [ask("m", { seed: 2 }), Anthropic.BadRequestError, { apiMessage: /^seed: Extra inputs/ }],
    [
      ask("m", { messages: [{ role: "assistant", content: "Hi" }] }),
      Anthropic.BadRequestError,
      { apiMessage: /first message/ },
    ],
  ];
  for (const [request, Class, { apiMessage, ...facts }] of failures as [
    object,
    never,
    { apiMessage?: RegExp },
  ][]) {
    const thrown = await client.messages.create(request as never).then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(thrown).toBeInstanceOf(Class);
    expect(thrown).toMatchObject(facts);
    if (apiMessage) expect((thrown as { apiMessage: string }).apiMessage).toMatch(apiMessage);
  }
  const broken = client.messages.stream(ask("m!error-event:5")).finalMessage();
  await expect(broken).rejects.toMatchObject({ type: "overloaded_error" });
});
