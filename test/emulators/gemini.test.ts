/** The emulator as Google's own SDK sees it: what that cannot read is wrong. */
import { ApiError, GoogleGenAI } from "@google/genai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type GeminiEmulator, startGeminiEmulator } from "./gemini.ts";

let emulator: GeminiEmulator;
let client: GoogleGenAI;

beforeAll(async () => {
  emulator = await startGeminiEmulator({
    apiKey: "key",
    answer: ({ body }) =>
      body.tools
        ? {
            parts: [
              { text: "I think.", thought: true },
              { functionCall: { name: "look", args: { x: 1 } }, thoughtSignature: "c2ln" },
              { functionCall: { name: "now", args: {} } },
            ],
          }
        : "Hello, wörld 🦜",
  });
  client = new GoogleGenAI({ apiKey: "key", httpOptions: { baseUrl: emulator.origin } });
});
afterAll(() => emulator.close());

const ask = (model: string, config = {}) => ({ model, contents: "two words", config });

test("answers, whole and streamed", async () => {
  const answer = await client.models.generateContent(ask("gemini-test"));
  expect(answer.text).toBe("Hello, wörld 🦜");
  expect(answer.usageMetadata).toMatchObject({ promptTokenCount: 2, candidatesTokenCount: 3 });
  for (const model of ["gemini-test", "gemini-test!split"]) {
    let text = "";
    for await (const chunk of await client.models.generateContentStream(ask(model))) {
      text += chunk.text;
    }
    expect(text).toBe("Hello, wörld 🦜");
  }
});

test("calls and thoughts, with their signature", async () => {
  const tools = [{ functionDeclarations: [{ name: "look" }, { name: "now" }] }];
  const answer = await client.models.generateContent(ask("gemini-test", { tools }));
  expect(answer.functionCalls).toEqual([
    { name: "look", args: { x: 1 } },
    { name: "now", args: {} },
  ]);
  expect(answer.candidates?.[0]?.content?.parts?.[1]?.thoughtSignature).toBe("c2ln");
});

test("errors, before an answer and within it", async () => {
  await expect(client.models.generateContent(ask("gemini-test!status-429"))).rejects.toThrow(
    /RESOURCE_EXHAUSTED.*retryDelay/s,
  );
  const wrong = new GoogleGenAI({ apiKey: "no", httpOptions: { baseUrl: emulator.origin } });
  await expect(wrong.models.generateContent(ask("gemini-test"))).rejects.toThrow(
    "API key not valid",
  );
  for (const fault of ["error-1", "bare-1"]) {
    const stream = await client.models.generateContentStream(ask(`gemini-test!${fault}`));
    const read = async () => {
      for await (const _ of stream);
    };
    await expect(read()).rejects.toThrow(ApiError);
  }
});

test("embeddings of Vertex, by predict and by content", async () => {
  const open = await startGeminiEmulator();
  const vertex = new GoogleGenAI({
    vertexai: true,
    apiKey: "key",
    httpOptions: { baseUrl: open.origin },
  });
  const config = { outputDimensionality: 2, taskType: "RETRIEVAL_QUERY" };
  const many = { model: "text-embedding-005", contents: ["a", "four"], config };
  expect((await vertex.models.embedContent(many)).embeddings).toMatchObject([
    { values: [1, 1.125], statistics: { tokenCount: 1 } },
    { values: [4, 4.125], statistics: { tokenCount: 1 } },
  ]);
  const one = { model: "gemini-embedding-2", contents: "two words", config };
  expect((await vertex.models.embedContent(one)).embeddings).toMatchObject([
    { values: [9, 9.125], statistics: { tokenCount: 2 } },
  ]);
  await open.close();
});
