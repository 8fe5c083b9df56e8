/**
 * Postgres and Redis break, stand still and crawl, the disk fills, and the process is killed, while it serves: whatever
 * happens, the ledger has what the provider counted, to the last token, and nothing of it twice.
 */
import { execFileSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type OpenAiEmulator, startOpenAiEmulator } from "../emulators/openai.ts";
import { createTenant, eventually, type Tenant } from "../support/api.ts";
import { type Cable, layCable } from "../support/cable.ts";
import { createPostgresDatabase, type PostgresDatabase } from "../support/database.ts";
import { readLedger } from "../support/ledger.ts";
import { findStores } from "../support/optional-parts.ts";
import { type RunningServer, startServer } from "../support/server.ts";
import { type SettingsFile, writeSettings } from "../support/settings.ts";

const stores = await findStores();
const why = typeof stores === "string" ? ` (skipped: ${stores})` : "";

/** What a client heard of a request to its end: the provider's own counts. */
type Heard = { id: string; input: number; output: number };

describe.skipIf(typeof stores === "string")(`a process on Postgres and Redis${why}`, () => {
  let emulator: OpenAiEmulator;
  /** Tokens that the emulator has answered with, in all. */
  let said = 0;
  let settings: SettingsFile;
  let database: PostgresDatabase;
  let toPostgres: Cable;
  let toRedis: Cable;
  let dataDir: string;
  let server: RunningServer;
  let tenant: Tenant;
  const heard: Heard[] = [];
  const isMounted = { spool: false };

  beforeAll(async () => {
    if (typeof stores === "string") return;
    emulator = await startOpenAiEmulator({
      answer({ messages }) {
        const words = 1 + (Number(/\d+/.exec(JSON.stringify(messages))?.[0]) % 23);
        said += words;
        return "word ".repeat(words).trim();
      },
    });
    settings = await writeSettings({
      upstreams: [{ name: "emulated", type: "openai", baseUrl: emulator.baseUrl }],
      models: [{ id: "dear-model", upstream: "emulated", prices: { input: "1", output: "10" } }],
      // Of the disk below, a part is kept free for what is under way.
      metering: { freeBytesMin: 2 << 20, diskCheckMs: 50, spoolBytesMax: 64 << 20 },
    });
    database = await createPostgresDatabase(stores.postgres);
    toPostgres = await layCable(database.url, 5432);
    toRedis = await layCable(stores.redis, 6379);
    dataDir = await mkdtemp(join(tmpdir(), "switchyard-faulty-"));
    try {
      const options = ["-t", "tmpfs", "-o", "size=16m", "tmpfs", dataDir];
      execFileSync("mount", options, { stdio: "ignore" });
      isMounted.spool = true;
    } catch {
      // Without the right to mount there is no disk to fill.
    }
    server = await start();
    tenant = await createTenant(server.url, server.adminKey, "steady", {
      budget: { limitUsd: "1000", period: "month" },
    });
  });
  afterAll(async () => {
    await server?.stop();
    toPostgres?.letGo();
    toRedis?.letGo();
    await toPostgres?.pull();
    await toRedis?.pull();
    await database?.drop();
    await settings?.remove();
    await emulator?.close();
    if (isMounted.spool) execFileSync("umount", [dataDir]);
    if (dataDir) await rm(dataDir, { recursive: true, force: true });
  });

  const start = () =>
    startServer({
      dataDir,
      env: {
        SWITCHYARD_CONFIG: settings.path,
        DATABASE_URL: toPostgres.url,
        REDIS_URL: toRedis.url,
      },
    });

  let asked = 0;
  /** @returns the status; what was answered is noted */
  async function ask(): Promise<number> {
    const stream = asked++ % 2 === 0;
    const response = await fetch(`${server.url}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${tenant.key}`, "content-type": "application/json" },
      body: JSON.stringify({
        model: "dear-model",
        max_tokens: 64,
        stream,
        ...(stream && { stream_options: { include_usage: true } }),
        messages: [{ role: "user", content: `number ${asked}` }],
      }),
    });
    const text = await response.text();
    if (response.status !== 200) return response.status;
    const usage = /"usage":\s*(\{"prompt_tokens":(\d+),"completion_tokens":(\d+))/.exec(text);
    const isWhole = !stream || text.includes("[DONE]");
    if (isWhole) {
      expect(usage).not.toBeNull();
      const id = response.headers.get("x-request-id") ?? "not told";
      heard.push({ id, input: Number(usage?.[2]), output: Number(usage?.[3]) });
    }
    return response.status;
  }

  /** Four at a time, until `over`; who is refused waits a little. */
  async function load(over: () => boolean): Promise<Map<number, number>> {
    const statuses = new Map<number, number>();
    const lane = async () => {
      while (!over()) {
        const status = await ask().catch(() => 0);
        statuses.set(status, (statuses.get(status) ?? 0) + 1);
        if (status !== 200) await sleep(20);
      }
    };
    await Promise.all(Array.from({ length: 4 }, lane));
    return statuses;
  }

  /** Serves before, during and after a fault. @returns how requests ended */
  async function during(fault: () => unknown, end: () => unknown): Promise<Map<number, number>> {
    let isOver = false;
    const statuses = load(() => isOver);
    const answered = async (more: number) => {
      const wanted = heard.length + more;
      await eventually("more answers", async () => heard.length >= wanted || undefined, 60_000);
    };
    await answered(10);
    await fault();
    await answered(30);
    await end();
    await answered(10);
    isOver = true;
    return statuses;
  }

  /** Every whole answer stands in the ledger once, with the provider's counts. */
  async function expectLedger(): Promise<Map<string, Heard>> {
    const sql = postgres(database.url, { max: 1, onnotice: () => {} });
    try {
      return await eventually(
        "the ledger to have all",
        async () => {
          const rows = await sql<Heard[]>`
            select request_id as id, input::int as input, output::int as output
            from billing.requests where project_id = ${tenant.projectId} and outcome = 'ok'`;
          const found = new Map(rows.map((row) => [row.id, row]));
          expect(found.size).toBe(rows.length);
          if (!heard.every(({ id }) => found.has(id))) return undefined;
          for (const one of heard) expect(found.get(one.id)).toEqual(one);
          return found;
        },
        60_000,
      );
    } finally {
      await sql.end();
    }
  }

  async function expectExactly(): Promise<void> {
    const found = await expectLedger();
    const ledger = [...found.values()].reduce((sum, { output }) => sum + output, 0);
    expect(ledger).toBe(said);
    expect(found.size).toBe(heard.length);
    const rows = await readLedger(database.url, tenant.projectId);
    const cost = (sum: bigint, { input, output }: Heard) =>
      sum + BigInt(input) * 1_000_000n + BigInt(output) * 10_000_000n;
    expect(rows.reduce((sum, row) => sum + row.cost, 0n)).toBe(heard.reduce(cost, 0n));
  }

  test("Postgres breaks off, stands still and crawls: nobody is refused, and nothing is missing", async () => {
    for (const [fault, end] of [
      [() => toPostgres.pull(), () => toPostgres.plug()],
      [() => toPostgres.hold(), () => toPostgres.letGo()],
      [() => toPostgres.stretch(150), () => toPostgres.stretch(0)],
    ] as const) {
      expect([...(await during(fault, end)).keys()]).toEqual([200]);
    }
    await expectExactly();
  }, 240_000);

  test("Redis breaks off, stands still and crawls: nobody is refused, and nothing is missing", async () => {
    for (const [fault, end] of [
      [() => toRedis.pull(), () => toRedis.plug()],
      [() => toRedis.hold(), () => toRedis.letGo()],
      [() => toRedis.stretch(150), () => toRedis.stretch(0)],
    ] as const) {
      expect([...(await during(fault, end)).keys()]).toEqual([200]);
    }
    await expectExactly();
  }, 240_000);

  test("a full disk refuses what is new, and loses nothing of what was under way", async ({
    skip,
  }) => {
    if (!isMounted.spool) return skip("needs the right to mount a tmpfs");
    // What is settled waits on the disk while the database is away.
    await toPostgres.pull();
    let isOver = false;
    const statuses = load(() => isOver);
    await sleep(200);
    execFileSync("sh", ["-c", `head -c 64m /dev/zero > ${join(dataDir, "ballast")} || true`], {
      stdio: "ignore",
    });
    await eventually("refusals", async () => ((await ask()) === 503 ? true : undefined), 60_000);
    await rm(join(dataDir, "ballast"));
    await eventually("answers", async () => ((await ask()) === 200 ? true : undefined), 60_000);
    isOver = true;
    await statuses;
    await toPostgres.plug();
    await expectExactly();
    const metrics = await (await fetch(`${server.url}/metrics`)).text();
    expect(metrics).toMatch(/^gateway_ledger_lost_records 0$/m);
  }, 240_000);

  test("killed at random moments with its stores away in turn: every whole answer is there, once", async () => {
    const before = said;
    const known = heard.length;
    for (const cable of [undefined, toPostgres, toRedis]) {
      let isOver = false;
      const statuses = load(() => isOver);
      const wanted = heard.length + 10 + Math.floor(Math.random() * 20);
      await eventually("answers", async () => heard.length >= wanted || undefined, 60_000);
      await cable?.pull();
      await sleep(Math.random() * 200);
      await server.kill();
      isOver = true;
      await statuses;
      await cable?.plug();
      server = await start();
    }
    const found = await expectLedger();
    // What the provider said to nobody, in the moment of a kill, may be missing; four requests were under way at a time.
    const words = [...found.values()].reduce((sum, { output }) => sum + output, 0);
    expect(words).toBeLessThanOrEqual(said);
    expect(said - words).toBeLessThanOrEqual(3 * 4 * 23);
    expect(found.size).toBeGreaterThanOrEqual(heard.length);
    expect(heard.length - known).toBeGreaterThanOrEqual(30);
    expect(said).toBeGreaterThan(before);
    await readLedger(database.url, tenant.projectId);
  }, 240_000);
});
