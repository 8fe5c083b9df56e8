/** Google's own client in front of the gateway: bytes that pass to Gemini, and all that is translated for others. */
import { ApiError, FunctionCallingConfigMode, GoogleGenAI, ThinkingLevel } from "@google/genai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type GeminiEmulator, startGeminiEmulator } from "../../../test/emulators/gemini.ts";
import { type OpenAiEmulator, startOpenAiEmulator } from "../../../test/emulators/openai.ts";
import { startTestGateway, type TestGateway } from "../../../test/support/gateway.ts";
import {
  testAdapter,
  testBase,
  testKey,
  testModel,
  testProject,
  testSnapshot,
} from "../../../test/support/policy.ts";

const apiKey = "sk-sy-key-of-the-acme-project";
const acme = testProject("acme");
const said = "Hello, wörld 🦜 and all";

let google: GeminiEmulator;
let openAi: OpenAiEmulator;
let served: TestGateway;
let client: GoogleGenAI;

beforeAll(async () => {
  google = await startGeminiEmulator({
    answer: ({ body }) =>
      body.tools
        ? {
            parts: [{ functionCall: { name: "look", args: { x: "ö" } }, thoughtSignature: "c2ln" }],
          }
        : { parts: [{ text: said }], candidate: { avgLogprobs: -0.5 } },
  });
  openAi = await startOpenAiEmulator({
    answer: (request) =>
      request.tools
        ? {
            content: "",
            reasoning: "Let me see.",
            toolCalls: [
              { id: "call_1", name: "look", arguments: '{"x":"ö"}' },
              { id: "call_2", name: "now", arguments: "" },
            ],
          }
        : { content: said },
  });
  const upstreamModels: Record<string, [upstream: string, upstreamModel: string]> = {
    "gemini-pass": ["google", "gemini-3-pro"],
    "gemini-cut": ["google", "gemini-3-pro!cut-2"],
    "gemini-error": ["google", "gemini-3-pro!error-2"],
    "gemini-limited": ["google", "gemini-3-pro!status-429"],
    "org/gpt-test": ["openai", "gpt-test"],
    "gpt-cut": ["openai", "gpt-test!cut:3"],
    "gpt-limited": ["openai", "gpt-test!status:429"],
  };
  served = await startTestGateway({
    snapshot: testSnapshot({
      projects: [acme],
      keys: [testKey(apiKey, { projectId: acme.id })],
      models: [
        ...Object.entries(upstreamModels).map(([id, [upstream, upstreamModel]]) =>
          testModel(id, { upstream, upstreamModel, contextLength: 8000 }),
        ),
        testModel("tiny", { upstream: "openai", base: testBase }),
      ],
      adapters: [testAdapter("tiny", "triage", acme, ["one", "two"])],
    }),
    upstreams: [
      { name: "google", type: "gemini", baseUrl: google.baseUrl },
      { name: "openai", type: "openai", baseUrl: openAi.baseUrl },
    ],
    limits: { breakerFailures: 1000 },
  });
  client = new GoogleGenAI({ apiKey, httpOptions: { baseUrl: served.url } });
});
afterAll(async () => {
  await served.close();
  await google.close();
  await openAi.close();
});

const contents = "two words";
/** A plain call, as a person with curl would make it. */
const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
  fetch(`${served.url}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
const withKey = { "x-goog-api-key": apiKey };
const greeting = { contents: [{ parts: [{ text: contents }] }] };

describe.each(["gemini-pass", "org/gpt-test"])("%s", (model) => {
  test("answers whole and in a stream, and what it used is settled", async () => {
    const answer = await client.models.generateContent({ model, contents });
    expect(answer.text).toBe(said);
    expect(answer.candidates?.[0]?.finishReason).toBe("STOP");
    expect(answer.usageMetadata).toMatchObject({
      promptTokenCount: 2,
      candidatesTokenCount: 5,
      totalTokenCount: 7,
    });
    const usage = { input: 2, output: 5 };
    expect(served.accounts.settled.at(-1)).toMatchObject({ usage, estimated: false });

    const stream = await client.models.generateContentStream({ model, contents });
    let text = "";
    let last: Awaited<ReturnType<typeof stream.next>>["value"];
    for await (const chunk of stream) {
      text += chunk.text ?? "";
      last = chunk;
    }
    expect(text).toBe(said);
    expect(last?.candidates?.[0]?.finishReason).toBe("STOP");
    expect(last?.usageMetadata?.totalTokenCount).toBe(7);
    expect(served.accounts.settled.at(-1)).toMatchObject({
      usage,
      estimated: false,
      outcome: "ok",
      stream: true,
    });
  });

  test("streams as an array of JSON where no events are asked for", async () => {
    const path = `/v1beta/models/${model}:streamGenerateContent?key=${apiKey}`;
    const response = await post(path, greeting);
    expect(response.headers.get("content-type")).toMatch(/^application\/json/);
    const chunks = (await response.json()) as {
      candidates: { content: { parts: { text: string }[] }; finishReason?: string }[];
    }[];
    const text = chunks.flatMap(({ candidates }) => candidates[0]?.content.parts ?? []);
    expect(text.map((part) => part.text).join("")).toBe(said);
    expect(chunks.at(-1)?.candidates[0]?.finishReason).toBe("STOP");
    expect(JSON.stringify(served.log)).not.toContain(apiKey);
  });

  test("calls tools, and gets their results", async () => {
    const config = {
      tools: [{ functionDeclarations: [{ name: "look" }, { name: "now" }] }],
    };
    const asked = [{ role: "user", parts: [{ text: contents }] }];
    const answer = await client.models.generateContent({ model, contents: asked, config });
    expect(answer.functionCalls?.[0]).toMatchObject({ name: "look", args: { x: "ö" } });
    let streamed: typeof answer.functionCalls = [];
    for await (const chunk of await client.models.generateContentStream({
      model,
      contents: asked,
      config,
    })) {
      streamed = [...streamed, ...(chunk.functionCalls ?? [])];
    }
    expect(streamed.map(({ name, args }) => ({ name, args }))).toEqual(
      answer.functionCalls?.map(({ name, args }) => ({ name, args })),
    );
    const results = (answer.functionCalls ?? []).map(({ id, name }) => ({
      functionResponse: { ...(id && { id }), name: name ?? "", response: { output: "a cat" } },
    }));
    const final = await client.models.generateContent({
      model,
      contents: [...asked, answer.candidates?.[0]?.content ?? {}, { role: "user", parts: results }],
    });
    expect(final.text).toBe(said);
  });

  test("tells errors as Google does", async () => {
    const limited = model.startsWith("gemini") ? "gemini-limited" : "gpt-limited";
    const error = await client.models
      .generateContent({ model: limited, contents })
      .catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ApiError);
    expect((error as ApiError).status).toBe(429);
    const told = JSON.parse((error as ApiError).message) as {
      error: { code: number; status: string; details: { "@type": string; retryDelay?: string }[] };
    };
    expect(told.error).toMatchObject({ code: 429, status: "RESOURCE_EXHAUSTED" });
    const retry = told.error.details.find((detail) => detail["@type"].endsWith("RetryInfo"));
    expect(retry?.retryDelay).toBe("7s");
  });

  test("that breaks off in the middle of a stream says so", async () => {
    const cut = model.startsWith("gemini") ? ["gemini-cut", "gemini-error"] : ["gpt-cut"];
    for (const broken of cut) {
      const before = served.accounts.settled.length;
      const stream = await client.models.generateContentStream({ model: broken, contents });
      let text = "";
      const read = async () => {
        for await (const chunk of stream) text += chunk.text ?? "";
      };
      await expect(read()).rejects.toThrow(ApiError);
      expect(said.startsWith(text) && text !== "").toBe(true);
      await served.accounts.untilSettled(before + 1);
      expect(served.accounts.settled.at(-1)).toMatchObject({ outcome: "upstream_failed" });
      const path = `/v1beta/models/${broken}:streamGenerateContent`;
      const array = await post(path, greeting, withKey);
      const chunks = (await array.json()) as { error?: { status: string } }[];
      expect(chunks.at(-1)?.error?.status).toBe("UNAVAILABLE");
    }
  });
});

test("what only Gemini knows passes to it unchanged, and back", async () => {
  const body = {
    contents: [
      { role: "user", parts: [{ text: "Hi" }, { executable_code: { code: "1" } }] },
      { role: "model", parts: [{ functionCall: { name: "f" }, thoughtSignature: "c2ln" }] },
    ],
    safety_settings: [{ category: "HARM_CATEGORY_HARASSMENT", threshold: "BLOCK_NONE" }],
    generationConfig: { mediaResolution: "MEDIA_RESOLUTION_LOW" },
  };
  const path = "/v1beta/models/gemini-pass:generateContent";
  const response = await post(path, body, withKey);
  const answer = (await response.json()) as { candidates: { avgLogprobs: number }[] };
  expect(answer.candidates[0]?.avgLogprobs).toBe(-0.5);
  expect(google.requests.at(-1)?.body).toEqual(body);
  expect(google.requests.at(-1)?.model).toBe("gemini-3-pro");
});

test("a request with everything is translated", async () => {
  const answer = await client.models.generateContent({
    model: "org/gpt-test",
    contents: [
      {
        role: "user",
        parts: [
          { text: "What is this?" },
          { inlineData: { mimeType: "image/png", data: "AAAA" } },
          { fileData: { mimeType: "image/png", fileUri: "https://host/cat.png" } },
          { inlineData: { mimeType: "audio/mpeg", data: "BBBB" } },
        ],
      },
      { role: "model", parts: [{ functionCall: { name: "look", args: { x: 1 } } }] },
      {
        role: "user",
        parts: [
          { functionResponse: { name: "look", response: { error: "no such thing" } } },
          { text: "Go on." },
        ],
      },
    ],
    config: {
      systemInstruction: "Be brief.",
      tools: [
        {
          functionDeclarations: [
            {
              name: "look",
              parameters: {
                type: "OBJECT" as never,
                properties: { x: { type: "STRING" as never } },
              },
            },
          ],
        },
      ],
      toolConfig: { functionCallingConfig: { mode: FunctionCallingConfigMode.ANY } },
      responseMimeType: "application/json",
      responseSchema: { type: "OBJECT" as never, properties: { a: { type: "STRING" as never } } },
      maxOutputTokens: 9,
      temperature: 0.5,
      topP: 0.9,
      seed: 7,
      stopSequences: ["END"],
      thinkingConfig: { thinkingLevel: ThinkingLevel.LOW, includeThoughts: true },
      safetySettings: [],
    },
  });
  expect(answer.candidates?.[0]?.content?.parts?.[0]).toEqual({
    text: "Let me see.",
    thought: true,
  });
  expect(openAi.requests.at(-1)?.body).toMatchObject({
    model: "gpt-test",
    messages: [
      { role: "system", content: "Be brief." },
      {
        role: "user",
        content: [
          { type: "text", text: "What is this?" },
          { type: "image_url", image_url: { url: "data:image/png;base64,AAAA" } },
          { type: "image_url", image_url: { url: "https://host/cat.png" } },
          { type: "input_audio", input_audio: { data: "BBBB", format: "mp3" } },
        ],
      },
      {
        role: "assistant",
        content: null,
        tool_calls: [{ id: "call_0", function: { name: "look", arguments: '{"x":1}' } }],
      },
      { role: "tool", tool_call_id: "call_0", content: "Error: no such thing" },
      { role: "user", content: "Go on." },
    ],
    tools: [
      {
        function: {
          name: "look",
          parameters: { type: "object", properties: { x: { type: "string" } } },
        },
      },
    ],
    tool_choice: "required",
    response_format: {
      type: "json_schema",
      json_schema: { schema: { type: "object", properties: { a: { type: "string" } } } },
    },
    max_completion_tokens: 9,
    temperature: 0.5,
    top_p: 0.9,
    seed: 7,
    stop: ["END"],
    reasoning_effort: "low",
  });
  expect(answer.sdkHttpResponse?.headers?.["x-switchyard-dropped"]).toBe("safetySettings");
});

describe("an address", () => {
  const ask = (path: string, headers: Record<string, string> = withKey) =>
    post(path, greeting, headers);

  test("names models and adapters, raw and encoded, as AI Studio and Vertex do", async () => {
    for (const path of [
      "/v1beta/models/org/gpt-test:generateContent",
      "/v1beta/models/org%2Fgpt-test:generateContent",
      "/v1/models/org%2Fgpt-test%3AgenerateContent",
      "/v1beta1/publishers/org/models/gpt-test:generateContent",
      "/v1/projects/p/locations/l/publishers/org/models/gpt-test:generateContent",
    ]) {
      const response = await ask(path);
      expect(response.headers.get("x-switchyard-model"), path).toBe("org/gpt-test");
    }
    // The emulated upstream serves no adapters, which is told of the one that was named.
    for (const name of ["tiny:triage@1", "tiny%3Atriage%401"]) {
      const response = await ask(`/v1beta/models/${name}:generateContent`);
      expect(JSON.stringify(await response.json())).toContain("tiny:triage@1");
    }
  });

  test("lets in by header, by bearer, by query, and nobody else", async () => {
    const path = "/v1beta/models/gemini-pass:generateContent";
    expect((await ask(path)).status).toBe(200);
    expect((await ask(path, { authorization: `Bearer ${apiKey}` })).status).toBe(200);
    expect((await ask(`${path}?key=${apiKey}`, {})).status).toBe(200);
    const refused = await ask(path, {});
    expect(refused.status).toBe(401);
    expect(await refused.json()).toMatchObject({ error: { status: "UNAUTHENTICATED" } });
  });

  test("that nobody serves is told in Google's words, and a method that a model lacks", async () => {
    for (const path of ["/v1beta/nothing", "/v1beta/models/gemini-pass:embedContent"]) {
      const response = await ask(path);
      expect(response.status).toBe(404);
      expect(await response.json()).toMatchObject({ error: { code: 404, status: "NOT_FOUND" } });
    }
    expect((await ask("/v1/models/org/gpt-test")).status).toBe(405);
  });
});

describe("a request that is wrong", () => {
  const refuse = async (body: unknown, model = "org/gpt-test") => {
    const path = `/v1beta/models/${model}:generateContent`;
    const response = await post(path, body, withKey);
    const { error } = (await response.json()) as {
      error: { details: { fieldViolations?: { field: string }[] }[] };
    };
    return error.details.flatMap((detail) => detail.fieldViolations ?? [])[0]?.field;
  };
  const user = (part: unknown) => [{ role: "user", parts: [part] }];

  test("is refused by the field's name", async () => {
    expect(await refuse({})).toBe("contents");
    expect(await refuse({ contents: [] })).toBe("contents");
    expect(await refuse({ contents: user({ text: 5 }) })).toBe("contents[0].parts[0].text");
    expect(await refuse({ contents: [{ role: "ai", parts: [] }] })).toBe("contents[0].role");
    expect(await refuse({ contents: user({ executableCode: {} }) })).toBe("contents[0].parts[0]");
    expect(await refuse({ contents: user({ functionResponse: { name: "f" } }) })).toBe(
      "contents[0].parts[0].functionResponse",
    );
    const contents = user({ text: "Hi" });
    expect(await refuse({ contents, cachedContent: "c" })).toBe("cachedContent");
    expect(await refuse({ contents, tools: [{ google_search: {} }] })).toBe("tools");
    expect(await refuse({ contents, generationConfig: { candidateCount: 0 } })).toBe(
      "generationConfig.candidateCount",
    );
    expect(await refuse({ contents, generation_config: { response_modalities: ["IMAGE"] } })).toBe(
      "generationConfig.responseModalities",
    );
  });

  test("is refused though it tries to be more than data", async () => {
    const body = `{"__proto__":{"contents":[]},"constructor":1,"contents":[{"parts":[{"__proto__":{"text":"x"}}]}]}`;
    expect(await refuse(body)).toBe("contents[0].parts[0]");
    expect(({} as { contents?: unknown }).contents).toBeUndefined();
  });
});

test("a tool that Google runs is refused elsewhere by its name", async () => {
  const asked = { ...greeting, tools: [{ google_search: {} }] };
  const response = await post("/v1beta/models/org/gpt-test:generateContent", asked, withKey);
  expect(JSON.stringify(await response.json())).toContain("The tool 'googleSearch'");
});

test("tokens are counted, by the provider where it counts", async () => {
  const count = (model: string) => client.models.countTokens({ model, contents });
  expect((await count("gemini-pass")).totalTokens).toBe(2);
  const { totalTokens, sdkHttpResponse } = await count("org/gpt-test");
  expect(totalTokens).toBeGreaterThan(1);
  expect(sdkHttpResponse?.headers?.["x-switchyard-counted-by"]).toBe("foreign-tokenizer");
  const whole = { generateContentRequest: { ...greeting, systemInstruction: { parts: [] } } };
  const response = await post("/v1beta/models/org/gpt-test:countTokens", whole, withKey);
  expect(await response.json()).toEqual({ totalTokens });
  // Vertex wraps nothing.
  const instructed = { ...greeting, system_instruction: { parts: [{ text: "Be very brief." }] } };
  const counted = await post("/v1beta/models/org/gpt-test:countTokens", instructed, withKey);
  expect(((await counted.json()) as { totalTokens: number }).totalTokens).toBeGreaterThan(
    totalTokens ?? 0,
  );
});

test("models are listed page by page, and one is shown", async () => {
  const names: string[] = [];
  const pager = await client.models.list({ config: { pageSize: 3 } });
  for await (const { name } of pager) names.push(name ?? "");
  expect(names).toContain("models/org/gpt-test");
  expect(names).toContain("models/tiny:triage");
  expect(new Set(names).size).toBe(names.length);
  const shown = await client.models.get({ model: "tiny:triage@1" });
  expect(shown).toMatchObject({ name: "models/tiny:triage@1", version: "1" });
  expect((await client.models.get({ model: "org/gpt-test" })).inputTokenLimit).toBe(8000);
});
