/** What an application asks of the embedded engine through the gateway, beside chats: texts, vectors, responses. */
import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createTenant, type Tenant } from "../support/api.ts";
import { type Stage, setStage } from "../support/stage.ts";

let stage: Stage;
let tenant: Tenant;
let client: OpenAI;
beforeAll(async () => {
  stage = await setStage();
  tenant = await createTenant(stage.server.url, stage.server.adminKey, "surface");
  client = new OpenAI({ baseURL: `${stage.server.url}/v1`, apiKey: tenant.key, maxRetries: 0 });
});
afterAll(() => stage?.close());

const model = "support-tiny";

test("vectors come as floats and as base64, and are billed by their input", async () => {
  const input = ["How do I reset my password?", "Where is my parcel?"];
  const { data, response } = await client.embeddings.create({ model, input }).withResponse();
  expect(data.data).toHaveLength(2);
  const [first, second] = data.data.map(({ embedding }) => embedding);
  const norm = Math.hypot(...(first ?? []));
  expect(norm).toBeCloseTo(1, 4);
  expect(first).not.toEqual(second);
  expect(response.headers.get("x-switchyard-model")).toBe(model);
  expect(response.headers.get("x-switchyard-cost-usd")).toMatch(/^0\.0*[1-9]/);
  const floats = await client.embeddings.create({ model, input, encoding_format: "float" });
  const [exact] = floats.data.map(({ embedding }) => embedding);
  for (const [index, value] of (exact ?? []).entries())
    expect(value).toBeCloseTo(first?.[index] ?? 9, 5);
});

test("a text goes on, streamed or not, and tells how likely it was", async () => {
  const asked = { model, prompt: "The parcel", max_tokens: 8, temperature: 0, logprobs: 2 };
  const whole = await client.completions.create(asked);
  const [choice] = whole.choices;
  expect(choice?.logprobs?.tokens?.join("")).toBe(choice?.text);
  let text = "";
  for await (const chunk of await client.completions.create({ ...asked, stream: true })) {
    text += chunk.choices[0]?.text ?? "";
  }
  expect(text).toBe(choice?.text);
});

test("a response is what the chat would have been", async () => {
  const content = "How do I reset my password?";
  const chat = await client.chat.completions.create({
    model,
    temperature: 0,
    max_tokens: 16,
    messages: [{ role: "user", content }],
  });
  const asked = { model, temperature: 0, max_output_tokens: 16, input: content };
  const whole = await client.responses.create(asked);
  expect(whole.output_text).toBe(chat.choices[0]?.message.content);
  const streamed = await client.responses.stream(asked).finalResponse();
  expect(streamed.output_text).toBe(whole.output_text);
  expect(streamed.usage?.input_tokens).toBe(chat.usage?.prompt_tokens);
});

test("a tool that another provider runs is refused by its name", async () => {
  await expect(
    client.responses.create({ model, input: "Hi", tools: [{ type: "web_search" }] }),
  ).rejects.toMatchObject({ status: 400, param: "tools" });
});
