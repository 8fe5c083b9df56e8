/** What is translated and translated back is the same: the canonical form loses nothing of it. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { HubError } from "../../../sdk/protocol/errors.ts";
import { type AnswerEvent, eventsOf, gatherAnswer } from "../../canonical/answer.ts";
import { geminiFormat as format } from "../../providers/gemini/format.ts";
import type { AnswerHead } from "../dialect.ts";
import { readCanonicalGemini } from "./canonical.ts";
import { gemini, geminiArray } from "./index.ts";
import { generateContentBody } from "./schema.ts";
import { fromThoughtSignature, toThoughtSignature } from "./seal.ts";

const limits = { frameBytesMax: 1 << 20, relayedTextCharsMax: 1 << 20 };
const head: AnswerHead = {
  id: "req_1",
  createdAtMs: 5000,
  nowMs: () => 5000,
  request: () => ({}),
  model: "asked",
  wantsUsage: true,
};
const read = (body: unknown) =>
  readCanonicalGemini(generateContentBody.parse(body), { model: "gemini-3-pro", stream: false });

const everything = {
  systemInstruction: { parts: [{ text: "Be brief." }] },
  contents: [
    {
      role: "user",
      parts: [
        { text: "What is this?" },
        { inlineData: { mimeType: "image/png", data: "AAAA" } },
        { inlineData: { mimeType: "application/pdf", data: "BBBB" } },
        { fileData: { mimeType: "image/png", fileUri: "https://host/cat.png" } },
        { inlineData: { mimeType: "audio/wav", data: "CCCC" } },
      ],
    },
    {
      role: "model",
      parts: [
        { text: "hm", thought: true, thoughtSignature: "dGhpbms=" },
        { text: "Let me look." },
        { functionCall: { id: "1", name: "look", args: { x: 1 } }, thoughtSignature: "Y2FsbA==" },
        { functionCall: { id: "2", name: "now", args: {} } },
      ],
    },
    {
      role: "user",
      parts: [
        {
          functionResponse: {
            id: "1",
            name: "look",
            response: { output: "a cat" },
            parts: [{ inlineData: { mimeType: "image/png", data: "DDDD" } }],
          },
        },
        { functionResponse: { id: "2", name: "now", response: { error: "no clock" } } },
        { text: "Go on." },
      ],
    },
  ],
  tools: [
    {
      functionDeclarations: [
        {
          name: "look",
          description: "d",
          parametersJsonSchema: { type: "object", properties: { x: { type: "integer" } } },
        },
        { name: "now" },
      ],
    },
  ],
  toolConfig: { functionCallingConfig: { mode: "ANY", allowedFunctionNames: ["look"] } },
  generationConfig: {
    temperature: 0.5,
    topP: 0.9,
    topK: 4,
    candidateCount: 2,
    maxOutputTokens: 9,
    stopSequences: ["END"],
    frequencyPenalty: 1,
    presencePenalty: -1,
    seed: 7,
    responseLogprobs: true,
    logprobs: 3,
    responseMimeType: "application/json",
    responseJsonSchema: { type: "object", properties: { a: { type: "string" } } },
    thinkingConfig: { thinkingLevel: "low", includeThoughts: true },
  },
};

test("a request with everything comes through as it was", () => {
  const { body, dropped } = format.writeBody(read(everything));
  expect(body).toEqual(everything);
  expect(dropped).toEqual([]);
});

test("names in snake case are the same request, and free-form names stay as they are", () => {
  const free = new Set(["args", "response", "parametersJsonSchema", "responseJsonSchema"]);
  const toSnake = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(toSnake);
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(
      Object.entries(value).map(([name, field]) => [
        name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
        free.has(name) ? field : toSnake(field),
      ]),
    );
  };
  expect(read(toSnake(everything))).toEqual(read(everything));
  const args = { user_name: "x", __proto__: { y: 1 } };
  const said = read({
    contents: [{ role: "model", parts: [{ function_call: { name: "f", args } }] }],
  });
  expect(said.turns[0]).toMatchObject({ parts: [{ arguments: '{"user_name":"x"}' }] });
});

test("Google's older schemas become JSON schemas", () => {
  const parameters = {
    type: "OBJECT",
    properties: {
      a: { type: "STRING", nullable: true, enum: ["x"], format: "enum" },
      b: { type: "ARRAY", items: { any_of: [{ type: "NUMBER" }] }, max_items: "3" },
    },
    property_ordering: ["a", "b"],
    required: ["a"],
  };
  const tools = [{ functionDeclarations: [{ name: "f", parameters }] }];
  expect(read({ contents: [{ parts: [] }], tools }).tools).toEqual([
    {
      type: "function",
      name: "f",
      parameters: {
        type: "object",
        properties: {
          a: { type: ["string", "null"], enum: ["x", null] },
          b: { type: "array", items: { anyOf: [{ type: "number" }] }, maxItems: 3 },
        },
        required: ["a"],
      },
    },
  ]);
});

test("results without an id answer the first open call of their name", () => {
  const { turns } = read({
    contents: [
      {
        role: "model",
        parts: ["f", "g", "f"].map((name) => ({ functionCall: { name } })),
      },
      {
        role: "user",
        parts: ["f", "f", "g"].map((name) => ({ functionResponse: { name, response: {} } })),
      },
    ],
  });
  const ids = turns.flatMap((turn) => (turn.role === "tool" ? [turn.result.callId] : []));
  expect(ids).toEqual(["call_0", "call_2", "call_1"]);
});

test("signatures of any provider go to the client and come back whole", () => {
  fc.assert(
    fc.property(fc.string(), fc.option(fc.string()), fc.boolean(), (signature, id, encrypts) => {
      const seal = {
        ...(encrypts ? { encrypted: signature } : { signature }),
        ...(id !== null && { id }),
      };
      expect(fromThoughtSignature(toThoughtSignature(seal) ?? "")).toEqual(seal);
    }),
  );
  expect(toThoughtSignature({ signature: "google:c2ln" })).toBe("c2ln");
  expect(fromThoughtSignature("c2ln")).toEqual({ signature: "google:c2ln" });
  expect(fromThoughtSignature("eyJzZWFsIjbroken")).toEqual({
    signature: "google:eyJzZWFsIjbroken",
  });
});

const usage = {
  usage: { input: 6, cache_read: 4, output: 5, reasoning: 2 },
  inconsistent: false,
};
const logprobs = [{ token: "H", logprob: -0.5, bytes: [72], top_logprobs: [] }];
const events: AnswerEvent[] = [
  { type: "start", id: "r1", model: "real" },
  { type: "reasoning", choice: 0, text: "hm" },
  { type: "reasoning_seal", choice: 0, signature: "google:dGhpbms=" },
  { type: "text", choice: 0, text: "H", logprobs },
  { type: "text", choice: 0, text: "éllo 🦜" },
  { type: "citation", choice: 0, citation: { url: "https://a", quote: "llo", start: 2, end: 5 } },
  { type: "tool_call", choice: 0, call: 0, id: "1", name: "look", signature: "google:c2ln" },
  { type: "tool_arguments", choice: 0, call: 0, text: '{"x"' },
  { type: "tool_call", choice: 0, call: 1, id: "2", name: "now" },
  { type: "tool_arguments", choice: 0, call: 0, text: ":1}" },
  { type: "text", choice: 1, text: "cut" },
  { type: "finish", choice: 0, reason: "tool_calls" },
  { type: "finish", choice: 1, reason: "length" },
  { type: "usage", usage },
];

function written(dialect: typeof gemini): Buffer {
  const writer = dialect.openWriter(head);
  const pieces = events.map((event) => writer.write(event) ?? new Uint8Array());
  return Buffer.concat([...pieces, writer.end(undefined) ?? new Uint8Array()]);
}

test("an answer, streamed or whole, is read back as what was written", () => {
  const answer = gatherAnswer(events);
  const reader = format.openReader(limits);
  const streamed = gatherAnswer([...reader.push(written(gemini)), ...reader.close()]);
  const body = Buffer.from(JSON.stringify(gemini.writeAnswer(answer, head)));
  const whole = gatherAnswer(format.readAnswer(body));
  expect(whole).toEqual(streamed);
  expect(gatherAnswer(eventsOf(whole))).toEqual(whole);
  expect(whole).toMatchObject({
    id: "r1",
    model: "real",
    usage,
    choices: [
      {
        parts: [
          { type: "reasoning", text: "hm", signature: "google:dGhpbms=" },
          { type: "text", text: "Héllo 🦜", citations: [{ url: "https://a", start: 2, end: 5 }] },
          { type: "tool_call", id: "1", name: "look", arguments: '{"x":1}' },
          { type: "tool_call", id: "2", name: "now", arguments: "{}" },
        ],
        finish: "tool_calls",
        logprobs,
      },
      { parts: [{ type: "text", text: "cut" }], finish: "length" },
    ],
  });
});

test("as an array the stream is one JSON text, also when nothing or only an error is said", () => {
  const chunks = JSON.parse(written(geminiArray).toString()) as object[];
  expect(chunks.length).toBeGreaterThan(3);
  const say = (error?: HubError) =>
    JSON.parse(Buffer.from(geminiArray.openWriter(head).end(error) ?? []).toString()) as unknown;
  expect(say()).toMatchObject([{ candidates: [{ finishReason: "STOP" }] }]);
  expect(say(new HubError("upstream_error", "no"))).toMatchObject([
    { error: { code: 502, status: "UNAVAILABLE", message: "no" } },
  ]);
});

test("a call whose arguments cannot be read is left out, and the reason to finish says so", () => {
  const broken: AnswerEvent[] = [
    { type: "tool_call", choice: 0, call: 0, id: "1", name: "f" },
    { type: "tool_arguments", choice: 0, call: 0, text: '{"x":' },
    { type: "finish", choice: 0, reason: "tool_calls" },
  ];
  expect(gemini.writeAnswer(gatherAnswer(broken), head)).toMatchObject({
    candidates: [{ content: { parts: [] }, finishReason: "MALFORMED_FUNCTION_CALL" }],
  });
  const writer = gemini.openWriter(head);
  const stream = broken.map((event) => writer.write(event)?.toString() ?? "").join("");
  expect(stream).toBe("");
  expect(Buffer.from(writer.end(undefined) ?? []).toString()).toContain("MALFORMED_FUNCTION_CALL");
});
