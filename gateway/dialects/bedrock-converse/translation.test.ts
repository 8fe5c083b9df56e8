/** What is translated and translated back is the same: the canonical form loses nothing of it. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { HubError } from "../../../sdk/protocol/errors.ts";
import { type AnswerEvent, gatherAnswer } from "../../canonical/answer.ts";
import { converseFormat as format } from "../../providers/bedrock/format.ts";
import type { AnswerHead } from "../dialect.ts";
import { readCanonicalConverse } from "./canonical.ts";
import { bedrockConverse } from "./index.ts";
import { converseBody } from "./schema.ts";
import { fromClientSeal, toClientSeal } from "./seal.ts";

const limits = { frameBytesMax: 1 << 20, relayedTextCharsMax: 1 << 20 };
const head: AnswerHead = {
  id: "req_1",
  createdAtMs: 5000,
  nowMs: () => 5007,
  request: () => ({}),
  model: "asked",
  wantsUsage: true,
};

test("a request with everything comes through as it was", () => {
  const body = {
    system: [{ text: "Be brief." }, { cachePoint: { type: "default", ttl: "1h" } }],
    messages: [
      {
        role: "user",
        content: [
          { text: "What is this?" },
          { audio: { format: "wav", source: { bytes: "CCCC" } } },
          { image: { format: "png", source: { bytes: "AAAA" } } },
          { document: { format: "pdf", name: "document 1", source: { bytes: "BBBB" } } },
          { cachePoint: { type: "default" } },
        ],
      },
      {
        role: "assistant",
        content: [
          { reasoningContent: { reasoningText: { text: "hm", signature: "c2ln" } } },
          { reasoningContent: { redactedContent: "AAECAw==" } },
          { text: "Let me look." },
          { toolUse: { toolUseId: "1", name: "look", input: { x: 1 } } },
        ],
      },
      {
        role: "user",
        content: [
          { toolResult: { toolUseId: "1", content: [{ text: "no" }], status: "error" } },
          { text: "Go on." },
        ],
      },
    ],
    inferenceConfig: { maxTokens: 9, topP: 0.9, stopSequences: ["END"] },
    toolConfig: {
      tools: [
        {
          toolSpec: {
            name: "look",
            description: "d",
            inputSchema: { json: { type: "object", properties: { x: { type: "integer" } } } },
          },
        },
        { cachePoint: { type: "default" } },
      ],
      toolChoice: { tool: { name: "look" } },
    },
    additionalModelRequestFields: { top_k: 4 },
    requestMetadata: { a: "b" },
    serviceTier: { type: "flex" },
  };
  const asked = { body, model: "anthropic.claude-sonnet-4-5", stream: false };
  const canonical = readCanonicalConverse(converseBody.parse(body), asked);
  const named = (value: unknown) => JSON.stringify(value).replace("document 1 1", "document 1");
  const { body: written, dropped } = format.writeBody(canonical);
  expect(JSON.parse(named(written))).toEqual(body);
  expect(dropped).toEqual([]);
});

test("a document's format that is named like a property of objects is only an unknown one", () => {
  const document = { format: "constructor", name: "d", source: { bytes: "AAAA" } };
  const body = { messages: [{ role: "user" as const, content: [{ document }, { text: "Hi" }] }] };
  const { turns } = readCanonicalConverse(body, { body, model: "m", stream: false });
  expect(turns[0]).toMatchObject({ parts: [{ source: { mediaType: "text/plain" } }, {}] });
});

const usage = { usage: { input: 6, cache_read: 4, output: 7 }, inconsistent: false };
const events: AnswerEvent[] = [
  { type: "start", id: "r1", model: "real" },
  { type: "reasoning", choice: 0, text: "hm" },
  { type: "reasoning_seal", choice: 0, signature: "bedrock:c2ln" },
  { type: "reasoning_seal", choice: 0, encrypted: "bedrock:AAECAw==" },
  { type: "text", choice: 0, text: "Hé" },
  { type: "text", choice: 0, text: "llo 🦜" },
  { type: "citation", choice: 0, citation: { url: "https://a", title: "A", quote: "q" } },
  { type: "tool_call", choice: 0, call: 0, id: "1", name: "look" },
  { type: "tool_arguments", choice: 0, call: 0, text: '{"x"' },
  { type: "tool_call", choice: 0, call: 1, id: "2", name: "now" },
  { type: "tool_arguments", choice: 0, call: 0, text: ":1}" },
  { type: "finish", choice: 0, reason: "tool_calls" },
  { type: "usage", usage },
];

test("an answer, streamed or whole, is read back as what was written", () => {
  const writer = bedrockConverse.openWriter(head);
  const pieces = events.map((event) => writer.write(event) ?? new Uint8Array());
  const bytes = Buffer.concat([...pieces, writer.end(undefined) ?? new Uint8Array()]);
  const reader = format.openReader(limits);
  const streamed = gatherAnswer([...reader.push(bytes), ...reader.close()]);
  const answer = bedrockConverse.writeAnswer(gatherAnswer(events), head);
  expect(answer).toMatchObject({ stopReason: "tool_use", metrics: { latencyMs: 7 } });
  const whole = gatherAnswer(format.readAnswer(Buffer.from(JSON.stringify(answer))));
  expect(whole).toEqual(streamed);
  expect(whole).toMatchObject({
    usage,
    choices: [
      {
        parts: [
          { type: "reasoning", text: "hm", signature: "bedrock:c2ln" },
          { type: "reasoning", text: "", encrypted: "bedrock:AAECAw==" },
          {
            type: "text",
            text: "Héllo 🦜",
            citations: [{ url: "https://a", title: "A", quote: "q" }],
          },
          { type: "tool_call", id: "1", name: "look", arguments: '{"x":1}' },
          { type: "tool_call", id: "2", name: "now", arguments: "{}" },
        ],
        finish: "tool_calls",
      },
    ],
  });
});

test("signatures of any provider go to the client and come back whole", () => {
  const maker = fc.constantFrom("bedrock", "google", "anthropic");
  fc.assert(
    fc.property(maker, fc.base64String({ minLength: 4 }), fc.boolean(), (by, text, redacts) => {
      const seal = redacts ? { encrypted: `${by}:${text}` } : { signature: `${by}:${text}` };
      expect(fromClientSeal(toClientSeal(seal))).toEqual(seal);
    }),
  );
  expect(toClientSeal({ signature: "bedrock:c2ln" })).toEqual({ signature: "c2ln" });
});

test("a call that cannot be read is left out of a whole answer, and a broken stream says why", () => {
  const broken = gatherAnswer([
    { type: "tool_call", choice: 0, call: 0, id: "1", name: "f" },
    { type: "tool_arguments", choice: 0, call: 0, text: '{"x":' },
    { type: "finish", choice: 0, reason: "tool_calls" },
  ]);
  expect(bedrockConverse.writeAnswer(broken, head)).toMatchObject({
    output: { message: { content: [] } },
    stopReason: "malformed_tool_use",
  });
  const end = bedrockConverse.openWriter(head).end(new HubError("upstream_error", "gone"));
  const reader = format.openReader(limits);
  expect(reader.push(end ?? new Uint8Array())).toMatchObject([
    { type: "error", error: { message: expect.stringContaining("gone") } },
  ]);
});
