/** Kept answers through real accounts, ledger and Redis: what they cost, what limits count, what an outage does. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
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
import { connectRedis } from "../metering/redis.ts";
import { type OpenedGateway, openGateway } from "../open-gateway.ts";

const operatorKey = "operator-key-of-the-tests";
const acme = testProject("acme");
const limited = testProject("limited", { limits: { requestsPerMinute: 2 } });
const own = testPrices("priced", { input: "0.0000001", output: "0.0000002" });
const snapshot = testSnapshot({
  projects: [acme, limited],
  keys: [
    testKey("sk-sy-key-of-acme", { projectId: acme.id }),
    testKey("sk-sy-key-of-limited", { projectId: limited.id }),
  ],
  models: [testModel("priced"), testModel("free-again")],
  prices: [
    ...testPrices("priced", { input: "0.000001", output: "0.000002" }),
    ...own.map((price) => ({ ...price, tier: "cached_response" as const })),
    ...testPrices("free-again", { input: "0.000001", output: "0.000002" }),
  ],
});

let database: TestDatabase;
let emulator: OpenAiEmulator;
const cleanUp: (() => Promise<unknown>)[] = [];
beforeAll(async () => {
  database = await openTestDatabase();
  emulator = await startOpenAiEmulator({
    answer: () => ({
      content: "fine",
      usage: { prompt_tokens: 1_000, completion_tokens: 100, total_tokens: 1_100 },
    }),
  });
});
afterAll(async () => {
  for (const close of cleanUp.reverse()) await close();
  await emulator?.close();
  await database?.close();
});

async function open(redisUrl?: string): Promise<OpenedGateway> {
  const dataDir = await mkdtemp(join(tmpdir(), "switchyard-cache-"));
  const gateway = await openGateway({
    sql: database.sql,
    dataDir,
    redisUrl,
    upstreams: [{ name: "emulated", type: "openai", baseUrl: emulator.baseUrl }],
    registry: testRegistry(snapshot, operatorKey),
    operatorKey,
    logger: pino({ level: "silent" }),
  });
  await gateway.start();
  cleanUp.push(async () => {
    await gateway.stop();
    await rm(dataDir, { recursive: true });
  });
  return gateway;
}

type Asked = { model?: string; key?: string; stream?: boolean };
async function ask(
  gateway: OpenedGateway,
  said: string,
  { model = "priced", key = "sk-sy-key-of-acme", stream = false }: Asked = {},
) {
  const request = new Request("http://gateway/v1/chat/completions", {
    method: "POST",
    headers: {
      authorization: `Bearer ${key}`,
      "content-type": "application/json",
      "x-switchyard-cache": "ttl=60",
    },
    body: JSON.stringify({ model, stream, messages: [{ role: "user", content: said }] }),
  });
  const response = await gateway.app.fetch(request);
  const text = await response.text();
  const { status, headers } = response;
  return {
    status,
    cache: headers.get("x-switchyard-cache"),
    id: headers.get("x-request-id"),
    text,
  };
}

async function rowOf(gateway: OpenedGateway, id: string | null) {
  await gateway.flush();
  const [row] = await database.sql`
    select input::int, output::int, cost::text, response_cache, saved_usage,
      uncached_cost::text, pricing, model
    from billing.requests where request_id = ${id}`;
  const entries = await database.sql`
    select account, amount::text, meter, quantity::int from billing.entries
    where request_id = ${id} order by id`;
  return { row, entries: [...entries] };
}

for (const stream of [false, true]) {
  test(`a hit costs its own price to the pico-dollar, ${stream ? "streamed" : "whole"}`, async () => {
    const gateway = await open();
    const made = await ask(gateway, "Money", { stream });
    const hit = await ask(gateway, "Money", { stream });
    expect([made.cache, hit.cache, hit.text === made.text]).toEqual(["miss", "hit", true]);
    expect((await rowOf(gateway, made.id)).row).toMatchObject({
      cost: "0.001200000000",
      response_cache: null,
      saved_usage: null,
    });
    const { row, entries } = await rowOf(gateway, hit.id);
    expect(row).toEqual({
      input: 0,
      output: 0,
      cost: "0.000120000000",
      response_cache: "hit",
      saved_usage: { input: 1000, output: 100 },
      uncached_cost: "0.001200000000",
      pricing: "priced",
      model: "priced",
    });
    expect(entries).toEqual([
      { account: `expense:${acme.id}`, amount: "0.000100000000", meter: "input", quantity: 1000 },
      { account: `expense:${acme.id}`, amount: "0.000020000000", meter: "output", quantity: 100 },
      { account: "income:response_cache", amount: "-0.000120000000", meter: null, quantity: null },
    ]);
  });
}

test("a hit of a model without prices for kept answers is free, and known to be", async () => {
  const gateway = await open();
  await ask(gateway, "Free", { model: "free-again" });
  const hit = await ask(gateway, "Free", { model: "free-again" });
  const { row, entries } = await rowOf(gateway, hit.id);
  expect(row).toMatchObject({
    cost: "0.000000000000",
    pricing: "priced",
    uncached_cost: "0.001200000000",
  });
  expect(entries).toEqual([]);
});

test("a hit counts as a request against the limits", async () => {
  const gateway = await open();
  const key = "sk-sy-key-of-limited";
  expect((await ask(gateway, "Limit", { key })).cache).toBe("miss");
  expect((await ask(gateway, "Limit", { key })).cache).toBe("hit");
  expect((await ask(gateway, "Limit", { key })).status).toBe(429);
});

const noRedis = spawnSync("redis-server", ["--version"]).status !== 0;
test.skipIf(noRedis)(
  "gateways share what is kept in Redis; while it is dead each request is made, and none fails",
  async () => {
    const port = await freePort();
    let redis = await startRedis(port);
    cleanUp.push(async () => redis.kill("SIGKILL"));
    const url = `redis://127.0.0.1:${port}`;
    const [one, two] = [await open(url), await open(url)];
    await vi.waitFor(async () => {
      await ask(one, "Shared");
      expect((await ask(two, "Shared")).cache).toBe("hit");
    }, 20_000);
    const dead = new Promise((resolve) => redis.once("exit", resolve));
    redis.kill("SIGKILL");
    await dead;
    for (const gateway of [one, two]) {
      expect(await ask(gateway, "Shared")).toMatchObject({ status: 200, cache: "miss" });
      expect(await ask(gateway, "Shared", { stream: true })).toMatchObject({ status: 200 });
    }
    redis = await startRedis(port);
    await vi.waitFor(async () => {
      await ask(one, "Back");
      expect((await ask(two, "Back")).cache).toBe("hit");
    }, 20_000);
  },
);

async function startRedis(port: number): Promise<ChildProcess> {
  const args = ["--port", String(port), "--save", "", "--appendonly", "no"];
  const server = spawn("redis-server", args, { stdio: "ignore" });
  await vi.waitFor(async () => {
    const redis = connectRedis(`redis://127.0.0.1:${port}`, { timeoutMs: 1_000 });
    redis.on("error", () => {});
    try {
      await redis.connect();
      await redis.ping();
    } finally {
      redis.disconnect();
    }
  }, 20_000);
  return server;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const address = server.address();
  await new Promise((done) => server.close(done));
  return typeof address === "object" && address ? address.port : 0;
}
