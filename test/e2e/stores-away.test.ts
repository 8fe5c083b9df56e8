/** Postgres and Redis are cut off from a process that is serving: what goes on, what is refused, what is made up for. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type PicoUsd, parseUsd } from "../../sdk/protocol/money.ts";
import { type OpenAiEmulator, startOpenAiEmulator } from "../emulators/openai.ts";
import { type ApiAnswer, call, createTenant, eventually, type Tenant } from "../support/api.ts";
import { type Cable, layCable } from "../support/cable.ts";
import { createPostgresDatabase, type PostgresDatabase } from "../support/database.ts";
import { readLedger } from "../support/ledger.ts";
import { findStores } from "../support/optional-parts.ts";
import { type RunningServer, startServer } from "../support/server.ts";
import { type SettingsFile, writeSettings } from "../support/settings.ts";

const stores = await findStores();
const why = typeof stores === "string" ? ` (skipped: ${stores})` : "";

describe.skipIf(typeof stores === "string")(`a process on Postgres and Redis${why}`, () => {
  let emulator: OpenAiEmulator;
  let settings: SettingsFile;
  let database: PostgresDatabase;
  let toPostgres: Cable;
  let toRedis: Cable;
  let server: RunningServer;

  beforeAll(async () => {
    if (typeof stores === "string") return;
    emulator = await startOpenAiEmulator({ answer: () => "five words are said here" });
    settings = await writeSettings({
      upstreams: [{ name: "emulated", type: "openai", baseUrl: emulator.baseUrl }],
      models: [{ id: "dear-model", upstream: "emulated", prices: { input: "1", output: "10" } }],
    });
    database = await createPostgresDatabase(stores.postgres);
    toPostgres = await layCable(database.url, 5432);
    toRedis = await layCable(stores.redis, 6379);
    server = await startServer({
      env: {
        SWITCHYARD_CONFIG: settings.path,
        DATABASE_URL: toPostgres.url,
        REDIS_URL: toRedis.url,
      },
    });
  });
  afterAll(async () => {
    await server?.stop();
    await toPostgres?.pull();
    await toRedis?.pull();
    await database?.drop();
    await settings?.remove();
    await emulator?.close();
  });

  const ask = (tenant: Tenant): Promise<ApiAnswer> =>
    call(server.url, tenant.key, "POST", "/v1/chat/completions", {
      model: "dear-model",
      max_tokens: 16,
      messages: [{ role: "user", content: "hello" }],
    });
  const costOf = ({ headers }: ApiAnswer): PicoUsd =>
    parseUsd(headers.get("x-switchyard-cost-usd") ?? "not told");

  async function figure(name: string): Promise<number> {
    const text = await (await fetch(`${server.url}/metrics`)).text();
    return Number(new RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1]);
  }

  test("without its database goes on serving, refuses administration, and makes the ledger exact afterwards", async () => {
    const tenant = await createTenant(server.url, server.adminKey, "during the outage", {
      budget: { limitUsd: "1", period: "total" },
    });
    const costs: PicoUsd[] = [];
    const askAndAdd = async () => {
      const answer = await ask(tenant);
      expect(answer.status).toBe(200);
      costs.push(costOf(answer));
    };
    for (let asked = 0; asked < 5; asked++) await askAndAdd();

    await toPostgres.pull();
    for (let asked = 0; asked < 20; asked++) await askAndAdd();
    expect(await figure("gateway_spool_bytes")).toBeGreaterThan(0);
    const wrong = await call(server.url, "sk-sy-nobodys-key-at-all", "GET", "/v1/models");
    expect(wrong.status).toBe(401);
    for (const [method, path, body] of [
      ["GET", "/api/projects"],
      ["POST", "/api/projects", { name: "meanwhile" }],
      ["GET", "/api/adapters"],
      ["GET", "/api/evals/runs"],
      ["GET", "/api/datasets"],
      ["GET", "/api/requests"],
      ["GET", "/api/reports/costs"],
      ["GET", "/v1/organization/costs?start_time=1"],
    ] as const) {
      const answer = await call(server.url, server.adminKey, method, path, body);
      expect([path, answer.status, answer.body]).toMatchObject([
        path,
        503,
        { error: { code: "database_unavailable", type: "service_unavailable_error", param: null } },
      ]);
      const [after, again] = ["retry-after", "x-should-retry"].map((it) => answer.headers.get(it));
      expect([path, Number(after) > 0, again]).toEqual([path, true, "true"]);
    }
    await askAndAdd();

    await toPostgres.plug();
    await askAndAdd();
    await eventually("the spool to drain", async () => {
      return (await figure("gateway_spool_bytes")) === 0 || undefined;
    });
    const ledger = await readLedger(database.url, tenant.projectId);
    expect(ledger.map(({ cost }) => cost).sort()).toEqual(costs.sort());
    expect(await figure("gateway_ledger_lost_records")).toBe(0);
    expect(await figure("gateway_ledger_rejected_records")).toBe(0);
    const report = await call(server.url, tenant.key, "GET", "/api/reports/costs");
    expect(report.body).toMatchObject({ totals: { requests: costs.length } });
    await eventually("administration", async () => {
      const made = await call(server.url, server.adminKey, "POST", "/api/projects", {
        name: "afterwards",
      });
      return made.status === 201 || undefined;
    });
  });

  test("without Redis keeps half of each limit and the whole budget by itself, says so, and shares again afterwards", async () => {
    const limit = 20;
    const limited = await createTenant(server.url, server.adminKey, "limited", {
      limits: { requestsPerMinute: limit },
    });
    const budgeted = await createTenant(server.url, server.adminKey, "budgeted", {
      budget: { limitUsd: "0.001", period: "total" },
    });
    const costs: PicoUsd[] = [];
    const askAndAdd = async () => {
      const answer = await ask(budgeted);
      if (answer.status === 200) costs.push(costOf(answer));
      return answer;
    };
    for (let asked = 0; asked < 3; asked++) expect((await askAndAdd()).status).toBe(200);
    expect(await figure("gateway_redis_away")).toBe(0);

    await toRedis.pull();
    const startedAt = performance.now();
    const answers = await Promise.all(Array.from({ length: limit }, () => ask(limited)));
    const half = limit / 2;
    const leaked = Math.ceil(((performance.now() - startedAt) * half) / 60_000);
    const granted = answers.filter(({ status }) => status === 200).length;
    expect(granted).toBeGreaterThanOrEqual(half);
    expect(granted).toBeLessThanOrEqual(half + leaked);
    expect(await figure("gateway_redis_away")).toBe(1);
    expect(server.output()).toContain("metering works around a failure");

    // The process was told of all that it spent, and forgets none of it.
    const refused = await eventually("the budget to be spent", async () => {
      const answer = await askAndAdd();
      return answer.status === 200 ? undefined : answer;
    });
    expect(refused.body).toMatchObject({ error: { code: "insufficient_quota" } });
    const spent = costs.reduce((total, cost) => total + cost, 0n);
    expect(spent).toBeLessThanOrEqual(parseUsd("0.001"));

    await toRedis.plug();
    const other = await createTenant(server.url, server.adminKey, "other", {
      limits: { requestsPerMinute: limit },
    });
    await eventually("Redis to be used again", async () => {
      const answer = await ask(other);
      return answer.headers.get("x-ratelimit-limit-requests") === String(limit) || undefined;
    });
    expect(await figure("gateway_redis_away")).toBe(0);
    // What was spent without Redis comes to it from the ledger.
    expect(await askAndAdd()).toMatchObject({
      status: 429,
      body: { error: { code: "insufficient_quota" } },
    });
  });
});
