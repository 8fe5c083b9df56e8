/** Requests that are written for Gemini, and answers that are read from it. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { HubError } from "../../../sdk/protocol/errors.ts";
import { type AnswerEvent, gatherAnswer } from "../../canonical/answer.ts";
import type { CanonicalRequest } from "../../canonical/request.ts";
import { readCanonicalChat } from "../../dialects/openai-chat/canonical.ts";
import { readGeminiError } from "./errors.ts";
import { geminiFormat as format } from "./format.ts";

const limits = { frameBytesMax: 1 << 20, relayedTextCharsMax: 1 << 20, wantsUsage: true };
const asked = (more: Partial<CanonicalRequest>): CanonicalRequest => ({
  model: "gemini-3-pro",
  instructions: [],
  turns: [{ role: "user", parts: [{ type: "text", text: "Hi" }] }],
  tools: [],
  choices: 1,
  stop: [],
  stream: false,
  rest: {},
  ...more,
});
const write = (more: Partial<CanonicalRequest>) => format.writeBody(asked(more));

describe("a request", () => {
  test("with everything finds a place for all that Gemini has", () => {
    const chat = readCanonicalChat({
      model: "gemini-3-pro",
      messages: [
        { role: "system", content: "Be brief." },
        {
          role: "user",
          content: [
            { type: "text", text: "What is this?" },
            { type: "image_url", image_url: { url: "data:image/png;base64,AAAA" } },
            { type: "image_url", image_url: { url: "https://host/cat.webp?x=1" } },
            { type: "input_audio", input_audio: { data: "BBBB", format: "wav" } },
          ],
        },
        {
          role: "assistant",
          content: null,
          tool_calls: [
            { id: "c1", type: "function", function: { name: "look", arguments: '{"x":1}' } },
            { id: "c2", type: "function", function: { name: "now", arguments: "" } },
          ],
        },
        { role: "tool", tool_call_id: "c1", content: "a cat" },
        { role: "tool", tool_call_id: "c2", content: '{"hour":3}' },
        { role: "system", content: "Now in French." },
        { role: "user", content: "" },
      ],
      tools: [
        {
          type: "function",
          function: {
            name: "look",
            description: "d",
            strict: true,
            parameters: {
              $schema: "http://json-schema.org/draft-07/schema#",
              type: "object",
              properties: { x: { const: "a", pattern: "^a" } },
              additionalProperties: false,
            },
          },
        },
        { type: "function", function: { name: "now" } },
      ],
      response_format: {
        type: "json_schema",
        json_schema: { name: "s", schema: { type: "object", properties: {} } },
      },
      max_completion_tokens: 9,
      n: 2,
      temperature: 0.5,
      top_p: 0.9,
      top_k: 4,
      frequency_penalty: 1,
      presence_penalty: -1,
      seed: 7,
      stop: ["END"],
      logprobs: true,
      top_logprobs: 3,
      reasoning_effort: "low",
      user: "u",
      logit_bias: { "5": 3 },
      service_tier: "flex",
    });
    const { body, dropped } = format.writeBody(chat);
    expect(body).toEqual({
      systemInstruction: { parts: [{ text: "Be brief." }] },
      contents: [
        {
          role: "user",
          parts: [
            { text: "What is this?" },
            { inlineData: { mimeType: "image/png", data: "AAAA" } },
            { fileData: { mimeType: "image/webp", fileUri: "https://host/cat.webp?x=1" } },
            { inlineData: { mimeType: "audio/wav", data: "BBBB" } },
          ],
        },
        {
          role: "model",
          parts: [
            {
              functionCall: { id: "c1", name: "look", args: { x: 1 } },
              thoughtSignature: "skip_thought_signature_validator",
            },
            { functionCall: { id: "c2", name: "now", args: {} } },
          ],
        },
        {
          role: "user",
          parts: [
            { functionResponse: { id: "c1", name: "look", response: { output: "a cat" } } },
            { functionResponse: { id: "c2", name: "now", response: { hour: 3 } } },
            { text: "Now in French." },
          ],
        },
      ],
      tools: [
        {
          functionDeclarations: [
            {
              name: "look",
              description: "d",
              parametersJsonSchema: {
                type: "object",
                properties: { x: { enum: ["a"] } },
                additionalProperties: false,
              },
            },
            { name: "now" },
          ],
        },
      ],
      toolConfig: { functionCallingConfig: { mode: "VALIDATED" } },
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
        responseJsonSchema: { type: "object", properties: {} },
        thinkingConfig: { thinkingLevel: "low", includeThoughts: true },
      },
    });
    expect(dropped.sort()).toEqual(["logitBias", "schema.pattern", "service_tier", "user"]);
  });

  test("thinks in levels, and in tokens before Gemini 3", () => {
    const thinking = (model: string, reasoning: CanonicalRequest["reasoning"] & object) =>
      (write({ model, reasoning }).body.generationConfig as { thinkingConfig: unknown })
        .thinkingConfig;
    expect(thinking("gemini-2.5-pro", { effort: "medium" })).toEqual({
      thinkingBudget: 8192,
      includeThoughts: true,
    });
    expect(thinking("gemini-2.5-flash", { effort: "none" })).toEqual({ thinkingBudget: 0 });
    expect(thinking("gemini-4-pro", { effort: "max", visible: false })).toEqual({
      thinkingLevel: "high",
    });
    expect(thinking("gemini-4-pro", { tokensMax: 300 })).toMatchObject({ thinkingBudget: 300 });
  });

  test("gives signatures back, and only Google's own", () => {
    const call = { type: "tool_call", id: "c", name: "f", arguments: "{}" } as const;
    const { body, dropped } = write({
      model: "gemini-2.5-pro",
      turns: [
        {
          role: "assistant",
          parts: [
            { type: "reasoning", text: "hm", signature: "google:c2ln" },
            { type: "reasoning", text: "hm", signature: "of-another" },
            { ...call, signature: "google:Y2FsbA==" },
          ],
        },
        {
          role: "tool",
          result: {
            callId: "c",
            isError: true,
            parts: [
              { type: "text", text: "no" },
              { type: "image", source: { type: "file_id", id: "files/1" } },
            ],
          },
        },
      ],
    });
    expect(body.contents).toEqual([
      {
        role: "model",
        parts: [
          { text: "hm", thought: true, thoughtSignature: "c2ln" },
          { functionCall: { id: "c", name: "f", args: {} }, thoughtSignature: "Y2FsbA==" },
        ],
      },
      {
        role: "user",
        parts: [
          { functionResponse: { id: "c", name: "f", response: { error: "no" } } },
          { fileData: { fileUri: "files/1" } },
        ],
      },
    ]);
    expect(dropped).toEqual(["messages.reasoning"]);
  });

  test("is refused by name for what would be missed", () => {
    const refused = (more: Partial<CanonicalRequest>, param: string) =>
      expect(() => write(more)).toThrow(expect.objectContaining({ param }));
    refused({ stop: ["1", "2", "3", "4", "5", "6"] }, "stop");
    refused({ tools: [{ type: "custom", name: "shell" }] }, "tools");
    refused({ tools: [{ type: "native", dialect: "x", tool: { type: "web" } }] }, "tools");
    refused({ turns: [{ role: "tool", result: { callId: "?", parts: [] } }] }, "messages");
  });
});

const candidate = (parts: object[], more: object = {}) => ({
  responseId: "r1",
  modelVersion: "gemini-3-pro-001",
  candidates: [{ content: { role: "model", parts }, ...more }],
});
const usageMetadata = {
  promptTokenCount: 10,
  cachedContentTokenCount: 4,
  toolUsePromptTokenCount: 3,
  candidatesTokenCount: 5,
  thoughtsTokenCount: 2,
  totalTokenCount: 20,
};
const streamed = [
  candidate([{ text: "Let me", thought: true }]),
  candidate([{ text: " see.", thought: true, thoughtSignature: "dGhpbms=" }]),
  candidate([{ text: "Hé" }]),
  candidate([{ text: "llo 🦜" }]),
  candidate([{ functionCall: { name: "look", args: { x: 1 } }, thoughtSignature: "Y2FsbA==" }]),
  candidate([{ functionCall: { name: "now" } }]),
  { ...candidate([{ text: "" }], { finishReason: "STOP" }), usageMetadata },
];
const frames = (chunks: object[]) =>
  Buffer.from(chunks.map((chunk) => `data: ${JSON.stringify(chunk)}\r\n\r\n`).join(""));

function readStream(bytes: Buffer, cuts: readonly number[] = []): AnswerEvent[] {
  const reader = format.openReader(limits);
  const events: AnswerEvent[] = [];
  let start = 0;
  for (const cut of [...cuts, bytes.length]) {
    events.push(...reader.push(bytes.subarray(start, cut)));
    start = cut;
  }
  return [...events, ...reader.close()];
}

describe("an answer", () => {
  test("is read from a stream, however it is cut", () => {
    const bytes = frames(streamed);
    const whole = readStream(bytes);
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(bytes.length), { maxLength: 8 }), (cuts) => {
        expect(
          readStream(
            bytes,
            cuts.sort((a, b) => a - b),
          ),
        ).toEqual(whole);
      }),
    );
    expect(whole.at(-1)).toEqual({ type: "end" });
    expect(gatherAnswer(whole)).toEqual({
      id: "r1",
      model: "gemini-3-pro-001",
      choices: [
        {
          parts: [
            { type: "reasoning", text: "Let me see.", signature: "google:dGhpbms=" },
            { type: "text", text: "Héllo 🦜" },
            {
              type: "tool_call",
              id: "call_r1_0_0",
              name: "look",
              arguments: '{"x":1}',
              signature: "google:Y2FsbA==",
            },
            { type: "tool_call", id: "call_r1_0_1", name: "now", arguments: "{}" },
          ],
          finish: "tool_calls",
        },
      ],
      usage: {
        usage: { input: 9, cache_read: 4, output: 5, reasoning: 2 },
        inconsistent: false,
      },
    });
  });

  test("whole says why it stopped, in our words", () => {
    const finish = (body: object) =>
      gatherAnswer(format.readAnswer(Buffer.from(JSON.stringify(body)))).choices[0]?.finish;
    const text = [{ text: "x" }];
    expect(finish(candidate(text, { finishReason: "STOP" }))).toBe("stop");
    expect(finish(candidate(text, { finishReason: "MAX_TOKENS" }))).toBe("length");
    expect(finish(candidate([], { finishReason: "SAFETY" }))).toBe("content_filter");
    expect(finish({ promptFeedback: { blockReason: "SAFETY" } })).toBe("content_filter");
    expect(() => finish(candidate([], { finishReason: "MALFORMED_FUNCTION_CALL" }))).toThrow(
      "cannot be read",
    );
    expect(() => finish({ error: { code: 500, message: "inside" } })).toThrow("inside");
    expect(() => finish({ hello: 1 })).toThrow(HubError);
  });

  test("cites what it rests on, in units of UTF-16", () => {
    const events = format.readAnswer(
      Buffer.from(
        JSON.stringify(
          candidate([{ text: "Ä 🦜 flies." }], {
            groundingMetadata: {
              groundingChunks: [{ web: { uri: "https://a", title: "A" } }],
              groundingSupports: [
                {
                  segment: { startIndex: 3, endIndex: 14, text: "🦜 flies." },
                  groundingChunkIndices: [0],
                },
              ],
            },
          }),
        ),
      ),
    );
    const citation = events.find((event) => event.type === "citation")?.citation;
    expect(citation).toMatchObject({ url: "https://a", title: "A", quote: "🦜 flies." });
    expect("Ä 🦜 flies.".slice(citation?.start, citation?.end)).toBe("🦜 flies.");
  });

  test("tells how likely its tokens were", () => {
    const said = candidate([{ text: "a" }], {
      logprobsResult: {
        chosenCandidates: [{ token: "a", logProbability: -0.5 }],
        topCandidates: [{ candidates: [{ token: "b", logProbability: -1 }] }],
      },
    });
    const [choice] = gatherAnswer(format.readAnswer(Buffer.from(JSON.stringify(said)))).choices;
    expect(choice?.logprobs).toEqual([
      {
        token: "a",
        logprob: -0.5,
        bytes: [97],
        top_logprobs: [{ token: "b", logprob: -1, bytes: [98] }],
      },
    ]);
  });

  test("that breaks off is an error, one that was refused is an end", () => {
    const last = (bytes: Buffer) => readStream(bytes).at(-1)?.type;
    expect(last(frames(streamed.slice(0, -1)))).toBe("error");
    expect(last(frames([{ error: { code: 503, message: "no" } }]))).toBe("error");
    expect(last(frames([{ promptFeedback: { blockReason: "SAFETY" } }]))).toBe("end");
  });
});

describe("a passing stream", () => {
  function pass(bytes: Buffer, cuts: readonly number[] = []) {
    const stream = format.openPassing(limits);
    const passed: Uint8Array[] = [];
    let start = 0;
    for (const cut of [...cuts, bytes.length]) {
      const step = stream.push(bytes.subarray(start, cut));
      passed.push(...step.pass);
      if (step.end) return { passed: Buffer.concat(passed), end: step.end, stream };
      start = cut;
    }
    const step = stream.close();
    return { passed: Buffer.concat([...passed, ...step.pass]), end: step.end, stream };
  }

  test("is the same bytes, however it is cut, and its usage and text are found", () => {
    const bytes = frames(streamed);
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(bytes.length), { maxLength: 8 }), (cuts) => {
        const { passed, end, stream } = pass(
          bytes,
          cuts.sort((a, b) => a - b),
        );
        expect(passed.equals(bytes)).toBe(true);
        expect(end).toEqual({});
        expect(stream.usage?.usage).toEqual({ input: 9, cache_read: 4, output: 5, reasoning: 2 });
        expect(stream.relayed.toString()).toBe('Let me see.Héllo 🦜{"x":1}{}');
      }),
    );
  });

  test("ends with the error that it breaks off with, in each of its forms", () => {
    const error = { error: { code: 503, message: "overloaded", status: "UNAVAILABLE" } };
    const begun = frames(streamed.slice(0, 3));
    for (const failure of [
      frames([error]),
      Buffer.from(JSON.stringify(error, undefined, 2)),
      Buffer.from(JSON.stringify([error])),
    ]) {
      const { passed, end } = pass(Buffer.concat([begun, failure]));
      expect(passed.equals(begun)).toBe(true);
      expect(end?.error?.message).toContain("overloaded");
    }
    expect(pass(begun).end?.error?.message).toContain("middle of the answer");
    const cut = pass(Buffer.concat([begun, Buffer.from('data: {"cand')]));
    expect(cut.end?.error?.message).toContain("middle of the answer");
    expect(cut.passed.equals(begun)).toBe(true);
  });

  test("of several candidates is whole when all have finished", () => {
    const chunk = (index: number, more: object = {}) =>
      candidate([{ text: "x" }], { index, ...more });
    const done = { finishReason: "STOP" };
    expect(pass(frames([chunk(0), chunk(1), chunk(1, done), chunk(0, done)])).end).toEqual({});
    expect(pass(frames([chunk(0), chunk(1), chunk(1, done)])).end?.error).toBeDefined();
  });
});

describe("an error", () => {
  const read = (status: number, body: unknown) =>
    readGeminiError(
      { status, header: () => undefined },
      Buffer.from(JSON.stringify(body)),
      "google",
    );
  const told = (message: string, more: object = {}) => ({ error: { message, ...more } });
  const type = "type.googleapis.com/google.rpc.";

  test("becomes what the client can act on", () => {
    const info = [{ "@type": `${type}ErrorInfo`, reason: "API_KEY_INVALID" }];
    expect(read(400, told("x", { details: info })).code).toBe("upstream_auth_failed");
    expect(read(403, told("x")).code).toBe("upstream_auth_failed");
    expect(read(404, told("x")).code).toBe("upstream_model_not_found");
    expect(read(503, [told("busy")])).toMatchObject({
      code: "upstream_unavailable",
      message: expect.stringContaining("busy"),
    });
    expect(
      read(400, told("The input token count (9) exceeds the maximum number of tokens allowed (8)."))
        .code,
    ).toBe("context_length_exceeded");
    const violation = { fieldViolations: [{ field: "contents[0].parts" }] };
    const bad = [{ "@type": `${type}BadRequest`, ...violation }];
    expect(read(400, told("bad", { details: bad }))).toMatchObject({
      code: "invalid_value",
      message: "bad",
      param: "contents[0].parts",
    });
    const retry = [{ "@type": `${type}RetryInfo`, retryDelay: "7.5s" }];
    expect(read(429, told("slow", { details: retry }))).toMatchObject({
      code: "rate_limit_exceeded",
      retryAfterMs: 7500,
    });
    expect(read(500, "<h1>").code).toBe("upstream_error");
  });
});
