/** Answers in a form, and tool calls, of the embedded engine through the gateway: what the official client makes of them. */
import OpenAI from "openai";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import { afterAll, beforeAll, expect, test } from "vitest";
import { z } from "zod";
import { createTenant, type Tenant } from "../support/api.ts";
import { type Stage, setStage } from "../support/stage.ts";

let stage: Stage;
let tenant: Tenant;
let client: OpenAI;
beforeAll(async () => {
  stage = await setStage();
  tenant = await createTenant(stage.server.url, stage.server.adminKey, "forms");
  client = new OpenAI({ baseURL: `${stage.server.url}/v1`, apiKey: tenant.key, maxRetries: 0 });
});
afterAll(() => stage?.close());

const messages = [{ role: "user" as const, content: "My card was charged twice." }];
const base = { model: "support-tiny", messages, max_tokens: 200, temperature: 1, seed: 7 };
const ticket = z.object({
  queue: z.enum(["billing", "shipping", "account"]),
  urgent: z.boolean(),
  words: z.array(z.string().max(10)).max(2),
});

test("an answer by a zod schema is parsed, whole and streamed", async () => {
  const asked = { ...base, response_format: zodResponseFormat(ticket, "ticket") };
  const whole = await client.chat.completions.parse(asked);
  expect(ticket.safeParse(whole.choices[0]?.message.parsed).success).toBe(true);
  const streamed = await client.chat.completions.stream(asked).finalChatCompletion();
  expect(streamed.choices[0]?.message.content).toBe(whole.choices[0]?.message.content);
});

test("vLLM's fields reach the engine", async () => {
  const asked = { ...base, structured_outputs: { choice: ["refund", "no refund"] } };
  const answer = await client.chat.completions.create(asked);
  expect(["refund", "no refund"]).toContain(answer.choices[0]?.message.content);
  const text = await client.completions.create({
    ...{ model: base.model, prompt: "Code: ", max_tokens: 20, guided_regex: "[A-Z]{2}-\\d{3}" },
  });
  expect(text.choices[0]?.text).toMatch(/^[A-Z]{2}-\d{3}$/);
});

test("a forced call comes back with its arguments, whole and streamed", async () => {
  const tool = zodFunction({ name: "open_ticket", parameters: ticket });
  const asked = {
    ...{ ...base, tools: [tool], tool_choice: "required" as const, parallel_tool_calls: false },
  };
  const whole = await client.chat.completions.parse(asked);
  const [choice] = whole.choices;
  const [call] = choice?.message.tool_calls ?? [];
  expect(choice?.finish_reason).toBe("tool_calls");
  expect(
    ticket.safeParse(call?.type === "function" && call.function.parsed_arguments).success,
  ).toBe(true);
  const streamed = await client.chat.completions.stream(asked).finalChatCompletion();
  const [again] = streamed.choices[0]?.message.tool_calls ?? [];
  expect(again?.type === "function" && again.function.arguments).toBe(
    call?.type === "function" && call.function.arguments,
  );
});

test("what of a schema cannot be kept is refused by its place", async () => {
  const schema = { type: "object", properties: { a: { type: "array", uniqueItems: true } } };
  const response_format = {
    ...{ type: "json_schema" as const, json_schema: { name: "a", schema } },
  };
  await expect(client.chat.completions.create({ ...base, response_format })).rejects.toMatchObject({
    status: 400,
    code: "unsupported_parameter",
    param: "response_format.json_schema.schema.properties.a.uniqueItems",
  });
});
