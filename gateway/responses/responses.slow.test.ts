/** Responses that are kept: continued, read, listed and deleted by the official client, over a real database. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI from "openai";
import { pino } from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type OpenAiEmulator, startOpenAiEmulator } from "../../test/emulators/openai.ts";
import { openTestDatabase, type TestDatabase } from "../../test/support/database.ts";
import { testRegistry } from "../../test/support/gateway.ts";
import {
  testKey,
  testModel,
  testPrices,
  testProject,
  testSnapshot,
} from "../../test/support/policy.ts";
import { type OpenedGateway, openGateway } from "../open-gateway.ts";

const operatorKey = "operator-key-of-the-tests";
const acme = testProject("acme");
const other = testProject("other");
const dayMs = 24 * 60 * 60_000;
let nowMs = Date.parse("2026-06-01T12:00:00Z");
let database: TestDatabase;
let emulator: OpenAiEmulator;
let gateway: OpenedGateway;
let dataDir: string;

beforeAll(async () => {
  database = await openTestDatabase();
  emulator = await startOpenAiEmulator({
    answer: ({ messages }) => `That was message ${messages.length}.`,
  });
  dataDir = await mkdtemp(join(tmpdir(), "switchyard-responses-"));
  const snapshot = testSnapshot({
    projects: [acme, other],
    keys: [
      testKey("sk-sy-key-of-acme", { projectId: acme.id }),
      testKey("sk-sy-key-of-other", { projectId: other.id }),
    ],
    models: [testModel("gpt-test")],
    prices: testPrices("gpt-test", { input: "0.00000015", output: "0.0000006" }),
  });
  gateway = await openGateway({
    sql: database.sql,
    dataDir,
    upstreams: [{ name: "emulated", type: "openai", baseUrl: emulator.baseUrl }],
    registry: testRegistry(snapshot, operatorKey),
    operatorKey,
    logger: pino({ level: "silent" }),
    limits: { historyBytesMax: 20_000 },
    now: () => nowMs,
  });
  await gateway.start();
});
afterAll(async () => {
  await gateway.stop();
  await emulator.close();
  await database.close();
  await rm(dataDir, { recursive: true });
});

const client = (key = "sk-sy-key-of-acme") =>
  new OpenAI({
    apiKey: key,
    baseURL: "http://gateway/v1",
    maxRetries: 0,
    fetch: async (url, init) => gateway.app.fetch(new Request(url as string, init)),
  });
const model = "gpt-test";

test("a conversation goes on from a response, whole or streamed, and instructions are not carried over", async () => {
  const { responses } = client();
  const first = await responses.create({ model, input: "one", instructions: "Be brief." });
  const stream = responses.stream({
    model,
    input: [{ role: "user", content: "two" }],
    previous_response_id: first.id,
  });
  const second = await stream.finalResponse();
  expect(second.previous_response_id).toBe(first.id);
  const third = await responses.create({ model, input: "three", previous_response_id: second.id });
  expect(third.output_text).toBe("That was message 5.");
  expect(emulator.requests.at(-1)?.body.messages).toEqual([
    { role: "user", content: "one" },
    { role: "assistant", content: "That was message 2." },
    { role: "user", content: "two" },
    { role: "assistant", content: "That was message 3." },
    { role: "user", content: "three" },
  ]);

  expect(await responses.retrieve(second.id)).toMatchObject({
    id: second.id,
    status: "completed",
    store: true,
    output_text: "That was message 3.",
  });
  const items = await responses.inputItems.list(first.id);
  expect(items.data).toMatchObject([
    { id: expect.stringMatching(/^msg_/), role: "user", content: [{ text: "one" }] },
  ]);
  expect(await responses.delete(second.id)).toMatchObject({ id: second.id, deleted: true });
  await expect(responses.retrieve(second.id)).rejects.toMatchObject({ status: 404 });
  await expect(
    responses.create({ model, input: "x", previous_response_id: second.id }),
  ).rejects.toMatchObject({ status: 400, code: "previous_response_not_found" });
});

test("another project's responses do not exist, nor do those that were not to be stored", async () => {
  const mine = await client().responses.create({ model, input: "secret" });
  const theirs = client("sk-sy-key-of-other").responses;
  const gone = { status: 404, message: expect.stringContaining("not found") };
  await expect(theirs.retrieve(mine.id)).rejects.toMatchObject(gone);
  await expect(theirs.delete(mine.id)).rejects.toMatchObject(gone);
  await expect(theirs.inputItems.list(mine.id)).rejects.toMatchObject(gone);
  await expect(
    theirs.create({ model, input: "x", previous_response_id: mine.id }),
  ).rejects.toMatchObject({ code: "previous_response_not_found" });
  const unstored = await client().responses.create({ model, input: "x", store: false });
  expect(unstored).toMatchObject({ store: false });
  await expect(client().responses.retrieve(unstored.id)).rejects.toMatchObject(gone);
});

test("an id that no database could hold is one that is not there", async () => {
  const { responses } = client();
  await expect(responses.retrieve("resp_\0")).rejects.toMatchObject({ status: 404 });
  await expect(responses.delete("resp_\0")).rejects.toMatchObject({ status: 404 });
  await expect(
    responses.create({ model, input: "x", previous_response_id: "resp_\0" }),
  ).rejects.toMatchObject({ code: "previous_response_not_found" });
});

test("a conversation is bounded, and forgotten after its time", async () => {
  const { responses } = client();
  const large = await responses.create({ model, input: "x".repeat(30_000) });
  await expect(
    responses.create({ model, input: "y", previous_response_id: large.id }),
  ).rejects.toMatchObject({ status: 413, param: "previous_response_id" });
  nowMs += 31 * dayMs;
  await expect(responses.retrieve(large.id)).rejects.toMatchObject({ status: 404 });
});

test("an answer that cannot be kept is given all the same, and says so", async () => {
  await database.sql`alter table gateway.responses rename to away`;
  try {
    const whole = await client().responses.create({ model, input: "x" });
    expect(whole).toMatchObject({ store: false, output_text: "That was message 1." });
    const streamed = await client().responses.stream({ model, input: "x" }).finalResponse();
    expect(streamed).toMatchObject({ store: false, status: "completed" });
    await expect(client().responses.retrieve(whole.id)).rejects.toMatchObject({ status: 503 });
  } finally {
    await database.sql`alter table gateway.away rename to responses`;
  }
});

test("tokens are counted with what is remembered, and nothing is sent or kept", async () => {
  const { responses, conversations } = client();
  const asked = emulator.requests.length;
  const alone = await responses.inputTokens.count({ model, input: "Four words are here." });
  expect(alone).toEqual({ object: "response.input_tokens", input_tokens: expect.any(Number) });
  const { id: conversation } = await conversations.create({
    items: [{ role: "user", content: "many more words ".repeat(50) }],
  });
  const remembered = await responses.inputTokens.count({
    model,
    conversation,
    input: "Four words are here.",
  });
  expect(remembered.input_tokens).toBeGreaterThan(alone.input_tokens + 100);
  expect(emulator.requests.length).toBe(asked);
  expect((await conversations.items.list(conversation)).data).toHaveLength(1);
  const theirs = client("sk-sy-key-of-other").responses;
  await expect(theirs.inputTokens.count({ model, conversation })).rejects.toMatchObject({
    status: 404,
  });
});

test("a conversation is summed up as one item, which stands for it later on", async () => {
  const { responses } = client();
  const call = { call_id: "call_1", type: "function_call", name: "look", arguments: "{}" } as const;
  const compacted = await responses.compact({
    model,
    instructions: "Be brief.",
    input: [
      { role: "user", content: "What is there?" },
      call,
      { type: "function_call_output", call_id: "call_1", output: "a cat" },
    ],
  });
  // No model gets calls without the tools for them.
  expect(emulator.requests.at(-1)?.body.messages).toMatchObject([
    { role: "system", content: "Be brief." },
    { role: "user", content: "What is there?" },
    { role: "assistant", content: "[called look as call_1: {}]" },
    { role: "user", content: "[call_1 answered: a cat]" },
    { role: "user", content: expect.stringContaining("Sum up") },
  ]);
  expect(compacted).toMatchObject({
    object: "response.compaction",
    output: [{ type: "compaction", encrypted_content: expect.any(String) }],
    usage: { input_tokens: expect.any(Number) },
  });
  const input = [
    ...(compacted.output as OpenAI.Responses.ResponseInputItem[]),
    { role: "user" as const, content: "And now?" },
  ];
  const first = await responses.create({ model, input });
  const summary = { role: "system", content: expect.stringContaining("That was message 5.") };
  const asked = [summary, { role: "user", content: "And now?" }];
  expect(emulator.requests.at(-1)?.body.messages).toMatchObject(asked);
  const lastBegan = () => emulator.requests.at(-1)?.body.messages.slice(0, asked.length);
  await responses.create({ model, input: "Then?", previous_response_id: first.id });
  expect(lastBegan()).toMatchObject(asked);
  const again = await responses.compact({ model, previous_response_id: first.id });
  expect(lastBegan()).toMatchObject(asked);
  expect(again.output).toHaveLength(1);
});

test("what cannot be summed up is refused", async () => {
  const compact = (body: object) => client().post("/responses/compact", { body });
  const missing = { status: 400, code: "missing_required_parameter" };
  await expect(compact({ input: "one" })).rejects.toMatchObject({ ...missing, param: "model" });
  await expect(compact({ model })).rejects.toMatchObject({ ...missing, param: "input" });
  for (const input of [[null], [1], [{}], Array(10_000).fill(null)]) {
    await expect(compact({ model, input })).rejects.toMatchObject({ status: 400 });
  }
  await expect(compact({ model, previous_response_id: "resp_none" })).rejects.toMatchObject({
    code: "previous_response_not_found",
  });
});
