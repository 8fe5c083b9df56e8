/**
 * Every way in which an upstream can go wrong, in every provider's format, streamed and not, before every client: one
 * proper error of the client's dialect, or a right answer; the upstream let go, and the request settled once.
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startAnthropicEmulator } from "../test/emulators/anthropic.ts";
import { startBedrockEmulator } from "../test/emulators/bedrock.ts";
import { startCohereEmulator } from "../test/emulators/cohere.ts";
import { startGeminiEmulator } from "../test/emulators/gemini.ts";
import { startOpenAiEmulator } from "../test/emulators/openai.ts";
import { type ChaosUpstream, faults, startChaosUpstream } from "../test/support/chaos-upstream.ts";
import { startTestGateway, type TestGateway } from "../test/support/gateway.ts";
import {
  testKey,
  testModel,
  testPrices,
  testProject,
  testRoute,
  testSnapshot,
} from "../test/support/policy.ts";
import type { UpstreamSettings } from "./providers/settings.ts";

const acme = testProject("acme");
const apiKey = "sk-sy-key-of-the-acme-project";
const said = "Één antwoord met 🌍 en 日本語, dat lang genoeg is om halverwege te breken. ".repeat(
  3,
);
const formats = ["chat", "responses", "anthropic", "gemini", "bedrock", "cohere", "texts"] as const;
type Format = (typeof formats)[number];
const settings: Record<Format, Partial<UpstreamSettings>> = {
  chat: { type: "openai", api: "chat" },
  responses: { type: "openai", api: "responses" },
  anthropic: { type: "anthropic" },
  gemini: { type: "gemini" },
  bedrock: { type: "bedrock", region: "us-east-1" },
  cohere: { type: "cohere" },
  /** OpenAI's old completions, which pass and are not translated. */
  texts: { type: "openai" },
};
const modelOf = (format: Format, fault: string) => `${format}-${fault}`;

type Ask = { path: string; body: object };
type Client = {
  ask(model: string, stream: boolean): Ask;
  /** Of a refusal's body: what its SDK reads. */
  isRefusal(body: Record<string, never>): boolean;
  /** How a stream ends that broke. */
  brokenEnd: RegExp;
  /** How a stream ends that did not. */
  goodEnd: RegExp;
};

const user = { role: "user", content: "Zeg iets." };
const openAiRefusal = ({ error }: { error?: Record<string, unknown> }) =>
  ["message", "type", "param", "code"].every((key) => error && key in error);
const clients: Record<string, Client> = {
  chat: {
    ask: (model, stream) => ({
      path: "/v1/chat/completions",
      body: { model, stream, messages: [user] },
    }),
    isRefusal: openAiRefusal,
    brokenEnd: /data: \{"error":\{"message":[^\n]+\}\}\n\n$/,
    goodEnd: /data: \[DONE\]\n\n$/,
  },
  responses: {
    ask: (model, stream) => ({
      path: "/v1/responses",
      body: { model, stream, store: false, input: "Zeg iets." },
    }),
    isRefusal: openAiRefusal,
    brokenEnd: /event: error\ndata: \{[^\n]+\n\n|"type":"response\.failed"[^\n]+\n\n$/,
    goodEnd: /"type":"response\.completed"[^\n]+\n\n$/,
  },
  anthropic: {
    ask: (model, stream) => ({
      path: "/v1/messages",
      body: { model, stream, max_tokens: 500, messages: [user] },
    }),
    isRefusal: ({ type, error }: Record<string, unknown>) =>
      type === "error" && typeof (error as { type?: unknown })?.type === "string",
    brokenEnd: /event: error\ndata: \{"type":"error"[^\n]+\n\n$/,
    goodEnd: /event: message_stop\ndata: [^\n]+\n\n$/,
  },
  gemini: {
    ask: (model, stream) => ({
      path: `/v1beta/models/${model}:${stream ? "streamGenerateContent?alt=sse" : "generateContent"}`,
      body: { contents: [{ role: "user", parts: [{ text: "Zeg iets." }] }] },
    }),
    isRefusal: ({ error }: { error?: { code?: unknown; status?: unknown } }) =>
      typeof error?.code === "number" && typeof error.status === "string",
    brokenEnd: /data: \{"error":\{"code":\d+[^\n]+\}\s+$/,
    goodEnd: /"finishReason":\s*"STOP"[^\n]*\s+$/,
  },
  "gemini, as an array": {
    ask: (model, stream) => ({
      path: `/v1beta/models/${model}:${stream ? "streamGenerateContent" : "generateContent"}`,
      body: { contents: [{ role: "user", parts: [{ text: "Zeg iets." }] }] },
    }),
    isRefusal: ({ error }: { error?: { code?: unknown; status?: unknown } }) =>
      typeof error?.code === "number" && typeof error.status === "string",
    brokenEnd: /\{"error":\{"code":\d+[\s\S]+\}\s*\]\s*$/,
    goodEnd: /"finishReason":\s*"STOP"[\s\S]*\]\s*$/,
  },
  bedrock: {
    ask: (model, stream) => ({
      path: `/model/${model}/${stream ? "converse-stream" : "converse"}`,
      body: { messages: [{ role: "user", content: [{ text: "Zeg iets." }] }] },
    }),
    isRefusal: ({ message, __type }: Record<string, unknown>) =>
      typeof message === "string" && typeof __type === "string",
    brokenEnd: /:exception-type[\s\S]+Exception[\s\S]+"message":/,
    goodEnd: /:event-type[\s\S]+metadata[\s\S]+"usage":/,
  },
};

/** OpenAI's old completions have no emulator of their own. */
const completions: Client = {
  ask: (model, stream) => ({
    path: "/v1/completions",
    body: { model, stream, prompt: "Zeg iets." },
  }),
  isRefusal: openAiRefusal,
  brokenEnd: /data: \{"error":\{"message":[^\n]+\}\}\n\n$/,
  goodEnd: /data: \[DONE\]\n\n$/,
};
const clientsOf = (format: Format) => (format === "texts" ? { completions } : clients);

async function startTexts(): Promise<{ baseUrl: string; close(): Promise<void> }> {
  const server = createServer((request, response) => {
    request.on("data", (body: Buffer) => {
      const choice = (text: string, finish_reason: string | null) =>
        JSON.stringify({ choices: [{ index: 0, text, finish_reason }] });
      const isStream = body.includes('"stream":true');
      const type = isStream ? "text/event-stream" : "application/json";
      response.writeHead(200, { "content-type": type });
      const events = [choice(said, null), choice("", "stop"), "[DONE]"];
      response.end(
        isStream ? events.map((event) => `data: ${event}\n\n`).join("") : choice(said, "stop"),
      );
    });
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as AddressInfo;
  return {
    baseUrl: `http://127.0.0.1:${port}/v1`,
    close: () => new Promise((done) => server.close(() => done())),
  };
}

let chaos: ChaosUpstream;
let served: TestGateway;
const cleanUp: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  const answer = () => said;
  const emulators = await Promise.all([
    startOpenAiEmulator({ answer }),
    startAnthropicEmulator({ answer }),
    startGeminiEmulator({ answer }),
    startBedrockEmulator({ answer }),
    startCohereEmulator({ answer }),
    startTexts(),
  ]);
  const [openAi, anthropic, gemini, bedrock, cohere, texts] = emulators.map(
    ({ baseUrl }) => baseUrl,
  );
  const urls = { chat: openAi, responses: openAi, anthropic, gemini, bedrock, cohere, texts };
  chaos = await startChaosUpstream(urls as Record<string, string>);
  served = await startTestGateway({
    snapshot: testSnapshot({
      projects: [acme],
      keys: [testKey(apiKey, { projectId: acme.id })],
      models: formats.flatMap((format) =>
        [...faults, "right", "million"].map((fault) =>
          testModel(modelOf(format, fault), {
            upstream: /right|million|of-another-type/.test(fault) ? `${format}-in-time` : format,
            upstreamModel: fault,
          }),
        ),
      ),
      routes: formats.flatMap((format) =>
        faults.map((fault) =>
          testRoute(`safe-${modelOf(format, fault)}`, modelOf(format, fault), {
            fallbacks: [modelOf(format, "right")],
          }),
        ),
      ),
      prices: formats.flatMap((format) =>
        faults.flatMap((fault) =>
          testPrices(modelOf(format, fault), { input: "0.001", output: "0.001" }),
        ),
      ),
    }),
    upstreams: formats.flatMap((format) => {
      const shared = { apiKey: "key-of-the-upstream", baseUrl: chaos.url(format) };
      const slow = { name: format, firstByteTimeoutMs: 500, idleTimeoutMs: 500 };
      // However busy the machine is, what is right must not be taken for what is stalled.
      return [slow, { name: `${format}-in-time` }].map(
        (own) => ({ ...shared, ...settings[format], ...own }) as UpstreamSettings,
      );
    }),
    limits: {
      breakerFailures: 1_000_000,
      answerBytesMax: 256 << 10,
      frameBytesMax: 64 << 10,
    },
  });
  cleanUp.push(...emulators.map((emulator) => () => emulator.close()), () => chaos.close());
  cleanUp.push(() => served.close());
});
afterAll(async () => {
  for (const close of cleanUp.reverse()) await close();
});

async function send({ path, body }: Ask) {
  const response = await fetch(served.url + path, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${apiKey}` },
    body: JSON.stringify(body),
  });
  // Frames of AWS are no text, and their words are found in it all the same.
  return { response, text: Buffer.from(await response.arrayBuffer()).toString() };
}

/** What may be told as a right answer: it is one, or cannot be told from one. */
const mayPass: Record<string, (format: Format, stream: boolean) => boolean> = {
  right: () => true,
  "of-another-type": (_, stream) => !stream,
};

describe.each(formats)("%s as the upstream's format", (format) => {
  test.each(Object.entries(clientsOf(format)))(
    "before a client that speaks %s",
    async (_, client) => {
      const before = served.accounts.settled.length;
      const cases = [...faults, "right"].flatMap((fault) => [
        { fault, stream: false },
        { fault, stream: true },
      ]);
      const wrong = await Promise.all(
        cases.map(async ({ fault, stream }) => {
          const { response, text } = await send(client.ask(modelOf(format, fault), stream));
          const told = `${fault}, ${stream ? "streamed" : "whole"}: ${response.status} ${text.slice(-300)}`;
          const passes = mayPass[fault]?.(format, stream) ?? false;
          if (response.status >= 400) {
            return !passes && client.isRefusal(JSON.parse(text)) ? [] : [told];
          }
          if (!stream) return passes && text.includes("日本語") ? [] : [told];
          const [isGood, isBroken] = [client.goodEnd.test(text), client.brokenEnd.test(text)];
          return isGood === passes && isBroken === !passes ? [] : [told];
        }),
      );
      expect(wrong.flat()).toEqual([]);
      // The stand-in for the accounts throws at a second settlement.
      expect(served.accounts.settled).toHaveLength(before + cases.length);
      expect(served.accounts.reserved).toHaveLength(before + cases.length);
      while (chaos.open() > 0) await new Promise((resolve) => setTimeout(resolve, 1));
    },
  );

  test("a route falls back unseen from all that fails before a word is said", async () => {
    const client = format === "texts" ? completions : (clients.chat as Client);
    const before = served.accounts.settled.length;
    const told = await Promise.all(
      faults.flatMap((fault) =>
        [false, true].map(async (stream) => {
          const { response, text } = await send(
            client.ask(`safe-${modelOf(format, fault)}`, stream),
          );
          const isWhole = stream ? client.goodEnd.test(text) : text.includes("日本語");
          return { fault, stream, status: response.status, isWhole };
        }),
      ),
    );
    expect(told.filter(({ status }) => status !== 200)).toEqual([]);
    const broken = told.filter(({ isWhole }) => !isWhole);
    const inTheMiddle = /in-the-middle|in-a-frame|in-a-character/;
    expect(broken.filter(({ fault, stream }) => !stream || !inTheMiddle.test(fault))).toEqual([]);
    expect(served.accounts.settled).toHaveLength(before + told.length);
    while (chaos.open() > 0) await new Promise((resolve) => setTimeout(resolve, 1));
  });
});

test("a million tiny frames before an answer and within it mean nothing", async () => {
  const { response, text } = await send(
    (clients.chat as Client).ask(modelOf("chat", "million"), true),
  );
  expect(response.status).toBe(200);
  expect(text).toMatch((clients.chat as Client).goodEnd);
  expect(text).toContain("日本語");
});

test("nothing is left under way", async () => {
  const metrics = await (await fetch(`${served.url}/metrics`)).text();
  expect(metrics).toContain("gateway_requests_in_flight 0");
});
