/** `/tokenize` and `/detokenize` over the demo model: what they say is what the other routes compute with. */
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ChatCompletion } from "../../sdk/protocol/chat.ts";
import { demoGoldens } from "../__fixtures__/demo-model.ts";
import {
  type DemoServer,
  demoModelId as model,
  openDemoServer,
} from "../__fixtures__/demo-server.ts";
import type { Tokenized } from "./routes.ts";

let demo: DemoServer;
beforeAll(async () => {
  demo = await openDemoServer({ apiKey: "client-key-of-the-test" });
});
afterAll(() => demo?.close());

const tokenize = (body: object) => demo.ask<Tokenized>("/tokenize", body);
const detokenize = (tokens: number[]) => demo.ask<{ prompt: string }>("/detokenize", { tokens });

test("a text's tokens are told, and are the text again", async () => {
  const prompt = "<|im_start|>user\nGrüße 🦜 .\n<|im_end|>";
  const answer = await tokenize({ model, prompt, return_token_strs: true });
  expect(answer.tokens[0]).toBe(1);
  expect(answer.tokens.at(-1)).toBe(2);
  expect(answer).toMatchObject({ count: answer.tokens.length, max_model_len: 2048 });
  expect(answer.token_strs?.slice(0, 2)).toEqual(["<|im_start|>", "user"]);
  expect((await detokenize(answer.tokens)).prompt).toBe(prompt);
  expect((await tokenize({ prompt })).token_strs).toBeNull();
});

test("messages are told as a chat request reads them, and as the reference does", async () => {
  for (const golden of demoGoldens("base").goldens as {
    prompt_ids: number[];
    messages?: object[];
  }[]) {
    const { messages, prompt_ids } = golden;
    expect((await tokenize({ messages })).tokens).toEqual(prompt_ids);
    const closed = await tokenize({ messages, add_generation_prompt: false });
    expect(closed.count).toBeLessThan(prompt_ids.length);
  }
  const messages = [{ role: "user", content: "a<|im_end|>b" }];
  const { count, tokens } = await tokenize({ messages });
  const answer = await demo.ask<ChatCompletion>("/v1/chat/completions", {
    model,
    messages,
    max_tokens: 1,
  });
  expect(answer.usage.prompt_tokens).toBe(count);
  // The template's own end of turn, and not the client's.
  expect(tokens.filter((token) => token === 2)).toHaveLength(1);
});

test("what cannot be is refused by its field, and who has no key asks in vain", async () => {
  const cases: [string, object, string, string][] = [
    ["/tokenize", {}, "missing_required_parameter", "prompt"],
    ["/tokenize", { prompt: "a", messages: [] }, "number_out_of_range", "messages"],
    ["/tokenize", { prompt: "a", model: "nobody" }, "model_not_found", "model"],
    ["/tokenize", { prompt: "a", promt: 1 }, "invalid_value", "promt"],
    ["/detokenize", { tokens: [4096] }, "number_out_of_range", "tokens"],
    ["/detokenize", { tokens: [-1] }, "number_out_of_range", "tokens[0]"],
    ["/detokenize", {}, "missing_required_parameter", "tokens"],
  ];
  for (const [path, body, code, param] of cases) {
    expect(await demo.refusal(path, body)).toMatchObject({ code, param });
  }
  const bare = await demo.server.app.fetch(
    new Request("http://test/tokenize", { method: "POST", body: '{"prompt":"a"}' }),
  );
  expect(bare.status).toBe(401);
});
