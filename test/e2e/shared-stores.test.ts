/** One process with all services on Postgres and Redis, and a second gateway beside it that shares both. */
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connectRedis, type Redis } from "../../gateway/metering/redis.ts";
import { type PicoUsd, parseUsd } from "../../sdk/protocol/money.ts";
import { type OpenAiEmulator, startOpenAiEmulator } from "../emulators/openai.ts";
import { call, createTenant, eventually, pushAdapter, type Tenant } from "../support/api.ts";
import { createPostgresDatabase, type PostgresDatabase } from "../support/database.ts";
import { readLedger } from "../support/ledger.ts";
import { findStores } from "../support/optional-parts.ts";
import {
  type RunningGateway,
  type RunningServer,
  startGatewayAlone,
  startServer,
} from "../support/server.ts";
import { demoBase, demoModelPath, type SettingsFile, writeSettings } from "../support/settings.ts";

const stores = await findStores();
const why = typeof stores === "string" ? ` (skipped: ${stores})` : "";

describe.skipIf(typeof stores === "string")(`on Postgres and Redis${why}`, () => {
  const operatorKey = randomBytes(16).toString("hex");
  let emulator: OpenAiEmulator;
  let settings: SettingsFile;
  let database: PostgresDatabase;
  let redis: Redis;
  let dataDir: string;
  let server: RunningServer;
  let second: RunningGateway;

  beforeAll(async () => {
    if (typeof stores === "string") return;
    emulator = await startOpenAiEmulator({ answer: () => "five words are said here" });
    settings = await writeSettings({
      upstreams: [{ name: "emulated", type: "openai", baseUrl: emulator.baseUrl }],
      models: [{ id: "dear-model", upstream: "emulated", prices: { input: "1", output: "10" } }],
      embedded: demoBase,
      metering: patient,
    });
    database = await createPostgresDatabase(stores.postgres);
    redis = connectRedis(stores.redis, { timeoutMs: 5000 });
    await redis.connect();
    dataDir = await mkdtemp(join(tmpdir(), "switchyard-stores-"));
    server = await start();
    second = await startGatewayAlone({
      DATABASE_URL: database.url,
      REDIS_URL: stores.redis,
      SWITCHYARD_METERING: JSON.stringify(patient),
      SWITCHYARD_OPERATOR_KEY: operatorKey,
      SWITCHYARD_REGISTRY_URL: server.url,
      SWITCHYARD_UPSTREAMS: JSON.stringify([
        { name: "emulated", type: "openai", baseUrl: emulator.baseUrl },
      ]),
    });
  });
  afterAll(async () => {
    await second?.stop();
    await server?.stop();
    redis?.disconnect();
    await database?.drop();
    await settings?.remove();
    await emulator?.close();
    if (dataDir) await rm(dataDir, { recursive: true, force: true });
  });

  function start(): Promise<RunningServer> {
    return startServer({
      dataDir,
      env: {
        SWITCHYARD_CONFIG: settings.path,
        SWITCHYARD_OPERATOR_KEY: operatorKey,
        DATABASE_URL: database.url,
        REDIS_URL: typeof stores === "string" ? "" : stores.redis,
      },
    });
  }

  /** Waits until the second gateway has heard of the tenant, whose policy the first one keeps. */
  async function newTenant(name: string, policy: object): Promise<Tenant> {
    const tenant = await createTenant(server.url, server.adminKey, name, { ...policy });
    await eventually("the second gateway to know the key", async () => {
      const models = await call(second.url, tenant.key, "GET", "/v1/models");
      return models.status === 200 || undefined;
    });
    return tenant;
  }

  /** @returns what it cost, or the code of the refusal */
  async function ask(url: string, tenant: Tenant): Promise<PicoUsd | string> {
    const { status, headers, body } = await call(url, tenant.key, "POST", "/v1/chat/completions", {
      model: "dear-model",
      max_tokens: 16,
      messages: [{ role: "user", content: "hello" }],
    });
    if (status === 200) return parseUsd(headers.get("x-switchyard-cost-usd") ?? "not told");
    return (body as { error: { code: string } }).error.code;
  }

  test("two gateways let through together what a request rate limit grants to one", async () => {
    const limit = 6;
    const tenant = await newTenant("limited", { limits: { requestsPerMinute: limit } });
    const startedAt = performance.now();
    const answers = await Promise.all(
      Array.from({ length: 24 }, (_, index) =>
        ask(index % 2 === 0 ? server.url : second.url, tenant),
      ),
    );
    const leaked = Math.ceil(((performance.now() - startedAt) * limit) / 60_000);
    const granted = answers.filter((it) => typeof it === "bigint").length;
    expect(granted).toBeGreaterThanOrEqual(limit);
    // What leaked meanwhile may be granted again: on a slow machine too the bound is exact.
    expect(granted).toBeLessThanOrEqual(limit + leaked);
    expect(new Set(answers.filter((it) => typeof it === "string"))).toEqual(
      new Set(["rate_limit_exceeded"]),
    );
  });

  test("two gateways let through together what a budget allows one", async () => {
    const budget = { limitUsd: "0.001", period: "total" };
    const [alone, shared] = [
      await newTenant("budgeted alone", { budget }),
      await newTenant("budgeted together", { budget }),
    ];
    const spend = async (tenant: Tenant, urls: readonly string[]) => {
      const costs: PicoUsd[] = [];
      // Each gateway is asked until it refuses, and once more after that.
      for (let refused = 0, turn = 0; refused < 2 * urls.length; turn++) {
        const answer = await ask(urls[turn % urls.length] ?? "", tenant);
        if (typeof answer === "bigint") costs.push(answer);
        else {
          expect(answer).toBe("insufficient_quota");
          refused++;
        }
      }
      return costs;
    };
    const byOne = await spend(alone, [server.url]);
    const byTwo = await spend(shared, [server.url, second.url]);
    expect(byOne.length).toBeGreaterThan(5);
    expect(byTwo).toEqual(byOne);
    expect(sum(byTwo)).toBeLessThanOrEqual(parseUsd(budget.limitUsd));

    const hurried = await newTenant("budgeted at once", { budget });
    const answers = await Promise.all(
      Array.from({ length: 60 }, (_, index) =>
        ask(index % 2 === 0 ? server.url : second.url, hurried),
      ),
    );
    const costs = answers.filter((it) => typeof it === "bigint");
    expect(costs.length).toBeGreaterThan(0);
    expect(sum(costs)).toBeLessThanOrEqual(parseUsd(budget.limitUsd));

    const rows = await eventually("both gateways' records", async () => {
      const found = await readLedger(database.url, shared.projectId);
      return found.filter(({ outcome }) => outcome === "ok").length === byTwo.length
        ? found
        : undefined;
    });
    expect(sum(rows.map(({ cost }) => cost))).toBe(sum(byTwo));
  });

  test("SIGKILL in the middle of streams: each settled request is in the ledger once, leases expire, adapters are back", async () => {
    const tenant = await newTenant("killed", { budget: { limitUsd: "1", period: "total" } });
    const pushed = await pushAdapter(
      server.url,
      tenant.key,
      { base: "support-tiny", name: "formal" },
      demoModelPath("adapters/tone-formal"),
    );
    expect(pushed.status).toBe(201);

    const completed = new Set<string>();
    const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: tenant.key, maxRetries: 0 });
    const streams = Array.from({ length: 6 }, async (_, index) => {
      for (;;) {
        try {
          const { data: stream, request_id: requestId } = await client.chat.completions
            .create({
              model: index % 2 === 0 ? "support-tiny" : "support-tiny:formal@1",
              stream: true,
              max_tokens: 48,
              messages: [{ role: "user", content: `Where is parcel ${index}?` }],
            })
            .withResponse();
          for await (const _chunk of stream);
          if (requestId) completed.add(requestId);
        } catch {
          return;
        }
      }
    });
    await eventually("some answers", async () => completed.size >= 12 || undefined);
    await server.kill();
    await Promise.all(streams);

    server = await start();
    const rows = await eventually("the spool to be replayed", async () => {
      const found = await readLedger(database.url, tenant.projectId);
      const ids = new Set(found.map(({ id }) => id));
      return [...completed].every((id) => ids.has(id)) ? found : undefined;
    });
    expect(new Set(rows.map(({ id }) => id)).size).toBe(rows.length);

    // What the dead process held, for its broken streams and ahead of others, is held in Redis until its time is over.
    const key = `switchyard:{budgets}:project:${tenant.projectId}:total@UTC:0`;
    const held = await redis.hgetall(`${key}:advances`);
    const leases = await redis.zrange(`${key}:leases`, "0", "-1");
    expect(leases.length + Object.keys(held).length).toBeGreaterThan(0);
    const deadlines = [
      ...(await redis.zrange(`${key}:leases`, "0", "-1", "WITHSCORES")).filter(
        (_, at) => at % 2 === 1,
      ),
      ...Object.values(held).map((advance) => advance.split("|")[expiresField]),
    ];
    expect(Math.max(...deadlines.map(Number))).toBeLessThanOrEqual(
      Date.now() + 15 * 60_000 + 5_000,
    );
    // The quarter of an hour is not waited for: all is made as old.
    for (const lease of leases) await redis.zadd(`${key}:leases`, "XX", "1", lease);
    for (const [owner, advance] of Object.entries(held)) {
      const aged = advance.split("|").with(expiresField, "1").join("|");
      await redis.hset(`${key}:advances`, owner, aged);
    }

    const again = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: tenant.key, maxRetries: 0 });
    const answer = await again.chat.completions.create({
      model: "support-tiny:formal@1",
      max_tokens: 24,
      messages: [{ role: "user", content: "Where is my parcel?" }],
    });
    expect(answer.choices[0]?.message.content).toMatch(/^Dear customer,/);
    expect(await redis.zcard(`${key}:leases`)).toBe(0);
    expect(await redis.hmget(key, "held_usd", "held_pico")).toEqual(["0", "0"]);
    const settled = await eventually("the last record", async () => {
      const found = await readLedger(database.url, tenant.projectId);
      return found.length === rows.length + 1 ? found : undefined;
    });
    // A request that was killed while it was settled may be in the budget alone, never in the ledger alone.
    const [usd = "", pico = ""] = await redis.hmget(key, "spent_usd", "spent_pico");
    expect(BigInt(usd ?? 0) * 10n ** 12n + BigInt(pico ?? 0)).toBeGreaterThanOrEqual(
      sum(settled.map(({ cost }) => cost)),
    );
  });
});

/** Of what Redis keeps of an advance (`gateway/budgets/redis-budgets.ts`): when it is over. */
const expiresField = 9;

/** What this is about is what Redis says; a machine that is busy is not to be taken for a Redis that is away. */
const patient = { redisTimeoutMs: 60_000, budgetLoadTimeoutMs: 60_000 };

function sum(amounts: readonly PicoUsd[]): PicoUsd {
  return amounts.reduce((total, amount) => total + amount, 0n);
}
