/** One client of Anthropic's messages and several providers: fallbacks, conversations that move, bad bodies, silence. */
import Anthropic from "@anthropic-ai/sdk";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  type AnthropicEmulator,
  startAnthropicEmulator,
} from "../../../test/emulators/anthropic.ts";
import { type GeminiEmulator, startGeminiEmulator } from "../../../test/emulators/gemini.ts";
import { type OpenAiEmulator, startOpenAiEmulator } from "../../../test/emulators/openai.ts";
import { startTestGateway, type TestGateway } from "../../../test/support/gateway.ts";
import {
  testKey,
  testModel,
  testProject,
  testRoute,
  testSnapshot,
} from "../../../test/support/policy.ts";

const apiKey = "sk-sy-key-of-the-acme-project";
const acme = testProject("acme");

let claude: AnthropicEmulator;
let google: GeminiEmulator;
let gpt: OpenAiEmulator;
let served: TestGateway;
let client: Anthropic;

beforeAll(async () => {
  claude = await startAnthropicEmulator({ answer: () => "I am Claude.", eventDelayMs: 60 });
  gpt = await startOpenAiEmulator({ answer: () => "I am none.", deltaDelayMs: 60 });
  google = await startGeminiEmulator({
    answer: ({ body }) =>
      JSON.stringify(body).includes("functionResponse")
        ? "It is a cat."
        : {
            parts: [
              { text: "Let me see.", thought: true },
              { functionCall: { name: "look", args: {} }, thoughtSignature: "c2ln" },
            ],
          },
  });
  served = await startTestGateway({
    snapshot: testSnapshot({
      projects: [acme],
      keys: [testKey(apiKey, { projectId: acme.id })],
      models: [
        testModel("claude", { upstream: "anthropic" }),
        testModel("busy", { upstream: "anthropic", upstreamModel: "claude!overloaded" }),
        testModel("breaking", { upstream: "anthropic", upstreamModel: "claude!error-event:2" }),
        testModel("gemini", { upstream: "google", upstreamModel: "gemini-3-pro" }),
        testModel("gpt", { upstream: "openai" }),
      ],
      routes: [
        testRoute("auto", "busy", { fallbacks: ["gpt"] }),
        testRoute("early", "breaking", { fallbacks: ["gpt"] }),
        testRoute("back", "gpt-away", { fallbacks: ["busy", "claude"] }),
      ],
    }),
    upstreams: [
      { name: "anthropic", type: "anthropic", baseUrl: claude.baseUrl, apiKey: "k" },
      { name: "google", type: "gemini", baseUrl: google.baseUrl, apiKey: "k" },
      { name: "openai", type: "openai", baseUrl: gpt.baseUrl },
    ],
    limits: { breakerFailures: 1000, keepAliveMs: 10 },
  });
  client = new Anthropic({ apiKey, baseURL: served.url, maxRetries: 0 });
});
afterAll(async () => {
  await served.close();
  await Promise.all([claude.close(), google.close(), gpt.close()]);
});

const messages: Anthropic.MessageParam[] = [{ role: "user", content: "two words" }];
const ask = { model: "auto", max_tokens: 100, messages };

test("an overloaded Claude falls back to a model that speaks otherwise, and one that breaks before its first word", async () => {
  for (const model of ["auto", "early"]) {
    const stream = client.messages.stream({ ...ask, model });
    const { response } = await stream.withResponse();
    expect((await stream.finalMessage()).content).toMatchObject([{ text: "I am none." }]);
    expect(response.headers.get("x-switchyard-attempts")).toBe("2");
  }
  const whole = await client.messages.create(ask);
  expect(whole.content).toMatchObject([{ text: "I am none." }]);
  const back = await client.messages.create({ ...ask, model: "back" });
  expect(back.content).toMatchObject([{ text: "I am Claude." }]);
});

test("a conversation moves between providers, and each gets back its own signatures alone", async () => {
  const tools: Anthropic.Tool[] = [{ name: "look", input_schema: { type: "object" } }];
  const asked = { ...ask, model: "gemini", tools };
  const first = await client.messages.create(asked);
  const streamed = await client.messages.stream(asked).finalMessage();
  for (const { content, stop_reason } of [first, streamed]) {
    expect(content).toMatchObject([
      { type: "thinking", thinking: "Let me see.", signature: "" },
      { type: "thinking", thinking: "", signature: "call:google:c2ln" },
      { type: "tool_use", name: "look", input: {} },
    ]);
    expect(stop_reason).toBe("tool_use");
  }
  const call = streamed.content.find((block) => block.type === "tool_use");
  const history: Anthropic.MessageParam[] = [
    ...messages,
    { role: "assistant", content: streamed.content },
    {
      role: "user",
      content: [{ type: "tool_result", tool_use_id: call?.id ?? "", content: "a cat" }],
    },
  ];
  const again = await client.messages.create({ ...asked, messages: history });
  expect(again.content).toMatchObject([{ text: "It is a cat." }]);
  expect(google.requests.at(-1)?.body.contents?.[1]?.parts).toMatchObject([
    { functionCall: { name: "look" }, thoughtSignature: "c2ln" },
  ]);

  const moved = await client.messages.create({ ...asked, model: "claude", messages: history });
  expect(moved.content).toMatchObject([{ text: "I am Claude." }]);
  expect(claude.requests.at(-1)?.body.messages[1]?.content).toMatchObject([{ type: "tool_use" }]);
});

const valid = {
  model: "gpt",
  max_tokens: 9,
  system: [{ type: "text", text: "a", cache_control: { type: "ephemeral" } }],
  messages: [
    { role: "user", content: [{ type: "image", source: { type: "url", url: "https://a" } }] },
    {
      role: "assistant",
      content: [
        { type: "thinking", thinking: "a", signature: "b" },
        { type: "tool_use", id: "a", name: "b", input: {} },
      ],
    },
    { role: "user", content: [{ type: "tool_result", tool_use_id: "a", content: "c" }] },
  ],
  tools: [{ name: "b", input_schema: { type: "object" } }],
  tool_choice: { type: "auto" },
  thinking: { type: "adaptive" },
  stop_sequences: ["a"],
  metadata: { user_id: "a" },
};

test("whatever a body is, its answer is an answer, or an error that says what is wrong", async () => {
  const places = placesIn(valid);
  const wrong = fc
    .tuple(fc.constantFrom(...places), fc.jsonValue({ maxDepth: 3 }))
    .map(([place, value]) => replaced(valid, place, value));
  await fc.assert(
    fc.asyncProperty(fc.oneof(wrong, fc.jsonValue()), async (body) => {
      const response = await fetch(`${served.url}/v1/messages`, {
        method: "POST",
        headers: { "content-type": "application/json", "x-api-key": apiKey },
        body: JSON.stringify(body),
      });
      const answer = (await response.json()) as Record<string, unknown>;
      if (response.status === 200) expect(answer).toMatchObject({ type: "message" });
      else {
        expect(response.status, JSON.stringify(answer)).toBeLessThan(500);
        expect(answer).toMatchObject({ type: "error", error: { message: expect.any(String) } });
      }
    }),
    { numRuns: 200 },
  );
});

test("a silent stream gives signs of life that the client does not see, and a client that leaves ends it", async () => {
  for (const model of ["gpt", "claude"]) {
    const response = await fetch(`${served.url}/v1/messages`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-api-key": apiKey },
      body: JSON.stringify({ ...ask, model, stream: true }),
    });
    expect(await response.text()).toContain('event: ping\ndata: {"type":"ping"}\n\n');
    const read = await client.messages.stream({ ...ask, model }).finalMessage();
    expect(read.content).toHaveLength(1);
  }
  const left = claude.aborts;
  for await (const _event of await client.messages.create({
    ...ask,
    model: "claude",
    stream: true,
  }))
    break;
  await expect.poll(() => claude.aborts).toBe(left + 1);
});

type Place = readonly (string | number)[];

/** Every value in a value, by the way to it. */
function placesIn(value: unknown, at: Place = []): Place[] {
  const inner = typeof value === "object" && value !== null ? Object.entries(value) : [];
  return [at, ...inner.flatMap(([name, one]) => placesIn(one, [...at, name]))];
}

function replaced(value: unknown, [name, ...rest]: Place, by: unknown): unknown {
  if (name === undefined) return by;
  const copy = structuredClone(value) as Record<string, unknown>;
  copy[name] = replaced(copy[name], rest, by);
  return copy;
}
