import fc from "fast-check";
import { expect, test } from "vitest";
import { defaultLimits } from "../config.ts";
import { readMessagesCall } from "../dialects/anthropic-messages/request.ts";
import { readConverseCall } from "../dialects/bedrock-converse/request.ts";
import type { Call } from "../dialects/dialect.ts";
import { gemini } from "../dialects/gemini/index.ts";
import { readGeminiCall } from "../dialects/gemini/request.ts";
import { toChatCall } from "../dialects/openai-chat/request.ts";
import { readTranscriptionsCall } from "../dialects/openai-media/transcriptions.ts";
import { readCompletionsCall } from "../dialects/openai-passing/request.ts";
import { readResponsesCall } from "../dialects/openai-responses/request.ts";
import { Forms } from "../http/form.ts";
import { responseCall, transcriptionCall } from "../realtime/call.ts";
import {
  countInput,
  countInputAtMost,
  countOutput,
  countTokens,
  guessInput,
  inputTokensBound,
} from "./count.ts";

const media = { imageTokens: 1000, documentTokens: 5000 };
const image = { type: "image_url", image_url: { url: "https://x/y.png" } };
function callOf(messages: unknown[], more: Record<string, unknown> = {}) {
  const body = { model: "m", messages, ...more };
  return toChatCall(body, Buffer.byteLength(JSON.stringify(body)));
}

test("tokens are OpenAI's", () => {
  expect(countTokens("Hello, world!", "o200k_base")).toBe(4);
  expect(countTokens("Hello, world!", "cl100k_base")).toBe(4);
  // What looks like a special token is text in a message.
  expect(countTokens("<|endoftext|>", "o200k_base")).toBeGreaterThan(1);
});

test("the bound that is reserved is never below the count, whatever is written", () => {
  const message = fc.record({
    role: fc.constantFrom("user", "assistant", "system"),
    content: fc.oneof(
      fc.string({ unit: "binary", maxLength: 200 }),
      fc.array(
        fc.oneof(
          fc.string({ unit: "binary" }).map((text) => ({ type: "text", text })),
          fc.constant(image),
        ),
        { minLength: 1, maxLength: 3 },
      ),
    ),
  });
  fc.assert(
    fc.property(fc.array(message, { minLength: 1, maxLength: 5 }), (messages) => {
      const call = callOf(messages);
      expect(countInput(call, "o200k_base", media)).toBeLessThanOrEqual(
        inputTokensBound(call, media),
      );
    }),
  );
});

test("a word without an end is counted in parts, a little too high and soon", () => {
  const tokens = countTokens("a".repeat(5000), "o200k_base");
  expect(tokens).toBeGreaterThanOrEqual(5000 / 8);
  expect(tokens).toBeLessThanOrEqual(5000 / 8 + 10);
  // In one piece it would take a quarter of an hour.
  expect(countTokens("a".repeat(1 << 20), "o200k_base")).toBeGreaterThan(100_000);
  // A character of two halves is never cut into them.
  expect(countTokens("🦜".repeat(1000), "o200k_base")).toBeLessThanOrEqual(4000);
});

test("images count by number, however short their address is", () => {
  const call = callOf([{ role: "user", content: [image, image] }]);
  expect(countInput(call, "o200k_base", media)).toBeGreaterThan(2000);
  expect(guessInput(call, 1000)).toBeGreaterThan(2000);
});

test("documents count by number where they lie elsewhere, and by their bytes where they are sent", () => {
  const documents = (parts: object[]) => {
    const call = callOf([{ role: "user", content: parts }]);
    return inputTokensBound(call, media) - inputTokensBound(call, { ...media, documentTokens: 0 });
  };
  const file = (file: object) => ({ type: "file", file });
  expect(documents([file({ file_id: "file-1" }), file({ file_id: "file-2" })])).toBe(10_000);
  expect(documents([file({ file_data: "data:application/pdf;base64,AA" })])).toBe(0);
});

test("tools and schemas are part of the input", () => {
  const plain = callOf([{ role: "user", content: "hi" }]);
  const tools = [{ type: "function", function: { name: "look_up", parameters: {} } }];
  const tooled = callOf([{ role: "user", content: "hi" }], { tools });
  expect(countInput(tooled, "o200k_base", media)).toBeGreaterThan(
    countInput(plain, "o200k_base", media),
  );
});

const asked = (body: object) =>
  new Request("http://gateway", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
const reads = {
  chat: async (messages: object[]) => callOf([...messages, { role: "user", content: "and?" }]),
  messages: (content: object[]) =>
    readMessagesCall(
      asked({ model: "m", max_tokens: 5, messages: [{ role: "user", content }] }),
      defaultLimits,
    ),
  responses: (input: object[]) =>
    readResponsesCall(asked({ model: "m", input }), {
      ...{ limits: defaultLimits, projectId: "p", store: undefined, conversations: undefined },
    }),
  gemini: (parts: object[]) =>
    readGeminiCall(
      asked({ contents: [{ parts }] }),
      { model: "m", stream: false, dialect: gemini },
      defaultLimits,
    ),
  converse: (content: object[]) =>
    readConverseCall(
      asked({ messages: [{ role: "user", content }] }),
      { model: "m", stream: false },
      defaultLimits,
    ),
  completions: (more: object[]) =>
    readCompletionsCall(asked(Object.assign({ model: "m", prompt: "a" }, ...more)), defaultLimits),
};
const assistant = { role: "assistant", content: null };
const user = (part: object) => ({ role: "user", content: [part] });
const message = (part: object) => ({ type: "message", role: "user", content: [part] });
test.each<[keyof typeof reads, string, (text: string) => object]>([
  ["chat", "a thought", (text) => ({ ...assistant, reasoning_content: text })],
  ["chat", "a thought by its other name", (text) => ({ ...assistant, reasoning: text })],
  [
    "chat",
    "sealed thoughts",
    (text) => ({ ...assistant, content: "", reasoning_details: [{ data: text }] }),
  ],
  ["chat", "a refusal", (text) => ({ ...assistant, refusal: text })],
  [
    "chat",
    "arguments",
    (text) => ({ ...assistant, tool_calls: [{ function: { name: "f", arguments: text } }] }),
  ],
  [
    "chat",
    "a custom tool's input",
    (text) => ({ ...assistant, tool_calls: [{ custom: { name: "f", input: text } }] }),
  ],
  ["chat", "an older call", (text) => ({ ...assistant, function_call: { arguments: text } })],
  ["chat", "a file", (text) => user({ type: "file", file: { file_data: text } })],
  ["chat", "a sound", (text) => user({ type: "input_audio", input_audio: { data: text } })],
  ["chat", "what comes later", (text) => user({ type: "later", of: { text } })],
  ["messages", "a document", (data) => ({ type: "document", source: { type: "base64", data } })],
  [
    "messages",
    "a document's text",
    (data) => ({ type: "document", source: { type: "text", data } }),
  ],
  [
    "messages",
    "a document's parts",
    (text) => ({ type: "document", source: { type: "content", content: [{ text }] } }),
  ],
  ["messages", "a document's context", (context) => ({ type: "document", context })],
  ["messages", "where something was found", (source) => ({ type: "search_result", source })],
  ["messages", "sealed thoughts", (data) => ({ type: "redacted_thinking", data })],
  ["messages", "a seal", (signature) => ({ type: "thinking", thinking: "", signature })],
  ["messages", "a server's tool", (text) => ({ type: "server_tool_use", input: { text } })],
  [
    "messages",
    "a server's result",
    (text) => ({ type: "web_search_tool_result", content: [{ type: "x", text }] }),
  ],
  [
    "messages",
    "a document in a result",
    (data) => ({
      type: "tool_result",
      content: [{ type: "document", source: { type: "base64", data } }],
    }),
  ],
  ["responses", "a file", (text) => message({ type: "input_file", file_data: text })],
  ["responses", "sealed thoughts", (text) => ({ type: "reasoning", encrypted_content: text })],
  [
    "responses",
    "a hosted tool's results",
    (text) => ({ type: "mcp_list_tools", tools: [{ text }] }),
  ],
  ["responses", "a tool's output", (output) => ({ type: "function_call_output", output })],
  ["gemini", "a document", (data) => ({ inlineData: { mimeType: "application/pdf", data } })],
  ["gemini", "code that was run", (code) => ({ executableCode: { code } })],
  ["gemini", "a seal", (thoughtSignature) => ({ text: "", thoughtSignature })],
  [
    "gemini",
    "a document in a result",
    (data) => ({
      functionResponse: { name: "f", parts: [{ inlineData: { mimeType: "a/b", data } }] },
    }),
  ],
  ["converse", "a document", (bytes) => ({ document: { name: "d", source: { bytes } } })],
  ["converse", "a document's text", (text) => ({ document: { name: "d", source: { text } } })],
  ["converse", "a sound", (bytes) => ({ audio: { format: "wav", source: { bytes } } })],
  ["converse", "citations", (text) => ({ citationsContent: { content: [{ text }] } })],
  ["converse", "what is to be guarded", (text) => ({ guardContent: { text: { text } } })],
  [
    "converse",
    "a document in a result",
    (bytes) => ({
      toolResult: { toolUseId: "t", content: [{ document: { name: "d", source: { bytes } } }] },
    }),
  ],
  ["completions", "what is to come after", (suffix) => ({ suffix })],
])("%s: %s is part of the most that the input may be", async (dialect, _what, part) => {
  const text = "seven words of a very long text ".repeat(50);
  const call: Call = await reads[dialect]([part(text)]);
  const most = countInputAtMost(call, "o200k_base", media);
  expect(most).toBeGreaterThanOrEqual(countTokens(text, "o200k_base"));
  expect(most).toBeLessThanOrEqual(inputTokensBound(call, media));
});

test("what is heard is part of the most that the input may be", async () => {
  const seen = () => ({ written: 0, heard: 0, said: 0, spoken: 0 });
  for (const call of [responseCall, transcriptionCall]) {
    const most = countInputAtMost(call("m", defaultLimits, seen), "o200k_base", media);
    expect(most).toBeGreaterThanOrEqual(defaultLimits.realtimeInputTokens);
  }
  const body = new FormData();
  body.set("model", "m");
  body.set("file", new File([new Uint8Array(1 << 20)], "a.wav"));
  const request = new Request("http://gateway", { method: "POST", body });
  const forms = new Forms(undefined, defaultLimits);
  const call = await readTranscriptionsCall(request, { limits: defaultLimits, forms });
  const seconds = (1 << 20) / defaultLimits.audioBytesPerSecondMin;
  expect(countInputAtMost(call, "o200k_base", media)).toBeGreaterThanOrEqual(10 * seconds);
  await call.form?.close();
});

test("a model without a tokenizer is counted with a margin for its smaller vocabulary", () => {
  const call = callOf([{ role: "user", content: "word ".repeat(100) }]);
  expect(countInput(call, undefined, media)).toBeGreaterThan(countInput(call, "o200k_base", media));
});

test("output is counted by the tokenizer, else by four bytes a token", () => {
  expect(countOutput("Hello, world!", "o200k_base")).toBe(4);
  expect(countOutput("12345678", undefined)).toBe(2);
  expect(countOutput("🌍", undefined)).toBe(1);
  expect(countOutput("", undefined)).toBe(0);
});
