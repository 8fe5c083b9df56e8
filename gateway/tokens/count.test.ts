import fc from "fast-check";
import { expect, test } from "vitest";
import { toChatCall } from "../dialects/openai-chat/request.ts";
import { countInput, countOutput, countTokens, guessInput, inputTokensBound } from "./count.ts";

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
