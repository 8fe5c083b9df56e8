/** The gateway as it is run: real limits, budgets, spool, ledger and reports over a real database. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI from "openai";
import { pino } from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type OpenAiEmulator, startOpenAiEmulator } from "../test/emulators/openai.ts";
import { openTestDatabase, type TestDatabase } from "../test/support/database.ts";
import { testRegistry } from "../test/support/gateway.ts";
import {
  testKey,
  testModel,
  testPrices,
  testProject,
  testSnapshot,
} from "../test/support/policy.ts";
import { type OpenedGateway, openGateway } from "./open-gateway.ts";

const operatorKey = "operator-key-of-the-tests";
const acme = testProject("acme");
const limited = testProject("limited", {
  limits: { requestsPerMinute: 2 },
  budget: { limitUsd: "1", period: "day" },
});
let database: TestDatabase;
let emulator: OpenAiEmulator;
let gateway: OpenedGateway;
let dataDir: string;

beforeAll(async () => {
  database = await openTestDatabase();
  emulator = await startOpenAiEmulator({
    answer: () => ({
      content: "fine",
      usage: { prompt_tokens: 1_000, completion_tokens: 100, total_tokens: 1_100 },
    }),
  });
  dataDir = await mkdtemp(join(tmpdir(), "switchyard-gateway-"));
  const snapshot = testSnapshot({
    projects: [acme, limited],
    keys: [
      testKey("sk-sy-key-of-acme", { projectId: acme.id }),
      testKey("sk-sy-key-of-limited", { projectId: limited.id }),
      testKey("sk-sy-admin-key", { role: "admin" }),
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
  });
  await gateway.start();
});

afterAll(async () => {
  await gateway.stop();
  await emulator.close();
  await database.close();
  await rm(dataDir, { recursive: true });
});

const fetchGateway = (path: string, key: string) =>
  gateway.app.fetch(
    new Request(`http://gateway${path}`, { headers: { authorization: `Bearer ${key}` } }),
  );
const client = (apiKey: string) =>
  new OpenAI({
    apiKey,
    baseURL: "http://gateway/v1",
    maxRetries: 0,
    fetch: async (url, init) => gateway.app.fetch(new Request(url, init)),
  });

test("what a request cost is told to its client, and adds up in the reports", async () => {
  for (const stream of [false, true]) {
    const answer = await client("sk-sy-key-of-acme")
      .chat.completions.create({
        model: "gpt-test",
        messages: [{ role: "user", content: "hello" }],
        stream,
      })
      .withResponse();
    if ("toReadableStream" in answer.data) for await (const _ of answer.data);
    else expect(answer.response.headers.get("x-switchyard-cost-usd")).toBe("0.00021");
  }
  await gateway.flush();
  const report = await (await fetchGateway("/api/reports/costs", "sk-sy-key-of-acme")).json();
  expect(JSON.stringify(report)).toContain('"0.00042"');
  const others = await (await fetchGateway("/api/reports/costs", "sk-sy-key-of-limited")).json();
  expect(JSON.stringify(others)).not.toContain('"0.00042"');
  expect((await fetchGateway("/v1/organization/costs", "sk-sy-key-of-acme")).status).toBe(403);
});

test("a stream keeps its place and its money for as long as it goes on", async () => {
  const slow = await startOpenAiEmulator({ deltaDelayMs: 20 });
  const one = testProject("one", {
    limits: { concurrentRequests: 1 },
    budget: { limitUsd: "0.00001", period: "day" },
  });
  const folder = await mkdtemp(join(tmpdir(), "switchyard-lease-"));
  const opened = await openGateway({
    sql: database.sql,
    dataDir: folder,
    upstreams: [{ name: "emulated", type: "openai", baseUrl: slow.baseUrl }],
    registry: testRegistry(
      testSnapshot({
        projects: [one],
        keys: [testKey("sk-sy-key-of-one", { projectId: one.id })],
        models: [testModel("gpt-test")],
        prices: testPrices("gpt-test", { input: "0.00000001", output: "0.00000001" }),
      }),
      operatorKey,
    ),
    operatorKey,
    meteringLimits: { reservationTtlMs: 1 },
    logger: pino({ level: "silent" }),
  });
  await opened.start();
  const ask = (stream: boolean) =>
    opened.app.fetch(
      new Request("http://gateway/v1/chat/completions", {
        method: "POST",
        headers: { "content-type": "application/json", authorization: "Bearer sk-sy-key-of-one" },
        body: JSON.stringify({
          model: "gpt-test",
          messages: [{ role: "user", content: "hello" }],
          max_tokens: 10,
          stream,
        }),
      }),
    );
  const streaming = await ask(true);
  expect((await ask(false)).status).toBe(429);
  await streaming.text();
  expect((await ask(false)).status).toBe(200);
  await opened.stop();
  await slow.close();
  await rm(folder, { recursive: true });
});

test("limits hold, and say so in the headers that clients know", async () => {
  const ask = () =>
    client("sk-sy-key-of-limited").chat.completions.create({
      model: "gpt-test",
      messages: [{ role: "user", content: "hello" }],
    });
  const { response } = await ask().withResponse();
  expect(response.headers.get("x-ratelimit-limit-requests")).toBe("2");
  expect(response.headers.get("x-ratelimit-remaining-requests")).toBe("1");
  await ask();
  await expect(ask()).rejects.toThrow(OpenAI.RateLimitError);
});

test("the ledger's figures are among the metrics", async () => {
  const metrics = await (await fetchGateway("/metrics", "")).text();
  expect(metrics).toMatch(/^gateway_ledger_records [1-9]\d*$/m);
  expect(metrics).toMatch(/^gateway_ledger_lost_records 0$/m);
});
