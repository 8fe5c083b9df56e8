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
