/** One gateway of two processes behind one port, on Postgres and Redis. */
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type OpenAiEmulator, startOpenAiEmulator } from "../emulators/openai.ts";
import { call, createTenant, eventually, type Tenant } from "../support/api.ts";
import { createPostgresDatabase, type PostgresDatabase } from "../support/database.ts";
import { findStores } from "../support/optional-parts.ts";
import { launch, type Program, type RunningServer, startServer } from "../support/server.ts";
import { type SettingsFile, writeSettings } from "../support/settings.ts";

const stores = await findStores();
const why = typeof stores === "string" ? ` (skipped: ${stores})` : "";

describe.skipIf(typeof stores === "string")(`two workers${why}`, () => {
  const operatorKey = randomBytes(16).toString("hex");
  let emulator: OpenAiEmulator;
  let settings: SettingsFile;
  let database: PostgresDatabase;
  let dataDir: string;
  let server: RunningServer;
  let gateway: Program;
  let url: string;
  let metricsUrl: string;

  beforeAll(async () => {
    if (typeof stores === "string") return;
    emulator = await startOpenAiEmulator({ answer: () => "hello" });
    const upstream = { name: "emulated", type: "openai", baseUrl: emulator.baseUrl } as const;
    settings = await writeSettings({
      upstreams: [upstream],
      models: [{ id: "dear-model", upstream: "emulated", prices: { input: "1", output: "10" } }],
    });
    database = await createPostgresDatabase(stores.postgres);
    dataDir = await mkdtemp(join(tmpdir(), "switchyard-workers-"));
    const shared = {
      DATABASE_URL: database.url,
      REDIS_URL: stores.redis,
      SWITCHYARD_OPERATOR_KEY: operatorKey,
    };
    server = await startServer({ env: { ...shared, SWITCHYARD_CONFIG: settings.path } });
    const metricsPort = await freePort();
    metricsUrl = `http://127.0.0.1:${metricsPort}/metrics`;
    gateway = launch(["--import", "tsx", "gateway/main.ts"], {
      ...shared,
      PORT: "0",
      WORKERS: "2",
      METRICS_PORT: String(metricsPort),
      SWITCHYARD_DATA_DIR: dataDir,
      SWITCHYARD_REGISTRY_URL: server.url,
      SWITCHYARD_UPSTREAMS: JSON.stringify([upstream]),
    });
    const port = await gateway.said(/"port":(\d+)\}?,"msg":"the gateway serves"/);
    url = `http://127.0.0.1:${port}`;
    await eventually("both workers to serve", async () => workerIds().length === 2 || undefined);
  });
  afterAll(async () => {
    await gateway?.end("SIGTERM");
    await server?.stop();
    await database?.drop();
    await settings?.remove();
    await emulator?.close();
    if (dataDir) await rm(dataDir, { recursive: true, force: true });
  });

  function workerIds(): number[] {
    const running = gateway.output().match(/the gateway serves/g) ?? [];
    if (running.length < 2) return [];
    const children = execFileSync("ps", ["-o", "pid=,args=", "--ppid", String(gateway.pid)]);
    return children
      .toString()
      .split("\n")
      .filter((line) => line.includes("gateway/main.ts"))
      .map((line) => Number.parseInt(line, 10));
  }

  async function newTenant(name: string, policy: object): Promise<Tenant> {
    const tenant = await createTenant(server.url, server.adminKey, name, { ...policy });
    await eventually("the workers to know the key", async () => {
      const answers = await Promise.all(
        Array.from({ length: 8 }, () => call(url, tenant.key, "GET", "/v1/models")),
      );
      return answers.every(({ status }) => status === 200) || undefined;
    });
    return tenant;
  }

  const ask = ({ key }: Tenant) =>
    call(url, key, "POST", "/v1/chat/completions", {
      model: "dear-model",
      max_tokens: 16,
      messages: [{ role: "user", content: "hello" }],
    });

  test("share a limit, and their metrics are told as one", async () => {
    const day = { kind: "requests", limit: 10, windowSeconds: 86_400 };
    const tenant = await newTenant("both", { limits: { rules: [day] } });
    const answers = await Promise.all(Array.from({ length: 40 }, () => ask(tenant)));
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(10);
    await eventually("all requests to be counted", async () => {
      const text = await (await fetch(metricsUrl)).text();
      const counts = [...text.matchAll(/^gateway_requests_total\{([^}]*)\} (\d+)$/gm)];
      const of = (outcome: string) =>
        counts
          .filter(([, labels]) => labels?.includes(`outcome="${outcome}"`))
          .reduce((sum, [, , count]) => sum + Number(count), 0);
      return (of("ok") === 10 && of("refused") === 30) || undefined;
    });
  });

  test("go on while one of them is killed, and another takes its place", async () => {
    const tenant = await newTenant("killed", {});
    const [victim = 0, other = 0] = workerIds();
    process.kill(victim, "SIGKILL");
    await eventually("the other one to answer", async () => {
      const answered = await ask(tenant).catch(() => undefined);
      return answered?.status === 200 || undefined;
    });
    await eventually("another to come up in its place", async () => {
      const ids = workerIds();
      return (ids.length === 2 && ids.includes(other) && !ids.includes(victim)) || undefined;
    });
    expect(gateway.output()).toContain("a worker ended and is started anew");
  });
});

test("several workers without Redis are refused by name", async () => {
  const alone = launch(["--import", "tsx", "gateway/main.ts"], {
    WORKERS: "2",
    DATABASE_URL: "postgres://nobody@127.0.0.1:1/none",
    SWITCHYARD_OPERATOR_KEY: "operator-key-of-tests",
    SWITCHYARD_REGISTRY_URL: "http://127.0.0.1:1",
  });
  expect(await alone.ended()).not.toBe(0);
  expect(alone.output()).toContain("REDIS_URL");
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  return typeof address === "object" && address ? address.port : 0;
}
