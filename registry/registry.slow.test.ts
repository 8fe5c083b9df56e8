import { getTableName, is } from "drizzle-orm";
import { PgTable } from "drizzle-orm/pg-core";
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { errorBody } from "../sdk/protocol/errors.ts";
import { buildAdapter } from "../test/support/adapter.ts";
import { withDatabase } from "../test/support/database.ts";
import {
  openTestRegistry,
  pushForm,
  type TestRegistry,
  tinyModel,
} from "../test/support/registry.ts";
import { openDatabase } from "./db.ts";
import { withDatabaseUnavailable } from "./http/database-errors.ts";
import { hashKey } from "./keys.ts";
import * as schema from "./schema.ts";

let registry: TestRegistry;
beforeAll(async () => {
  registry = await openTestRegistry({ jsonBytesMax: 4000, pushesMax: 1 });
});
afterAll(() => registry.close());

const eventCount = async () =>
  (await registry.database.sql`select count(*)::int as count from registry.events`)[0]?.count;
const roleOf = async (key: string) => (await registry.call(key, "GET", "/api/whoami")).body.role;

test("migrations run once, whoever opens the database first and how often", async () => {
  await withDatabase(async ({ sql, connect }) => {
    await Promise.all([openDatabase(sql), openDatabase(connect()), openDatabase(connect())]);
    await openDatabase(sql);
    const tables = await sql`
      select table_name from information_schema.tables where table_schema = 'registry'`;
    const declared = Object.values(schema).filter((it) => is(it, PgTable));
    expect(tables.map((row) => row.table_name).toSorted()).toEqual(
      declared.map(getTableName).toSorted(),
    );
    const applied = await sql`select hash from drizzle.registry_migrations`;
    expect(new Set(applied.map((row) => row.hash)).size).toBe(applied.length);
  });
});

describe("the first start", () => {
  test("makes project and keys once; given keys are taken as they are", async () => {
    const before = await eventCount();
    const nothing = { projectId: registry.projectId, generated: {} };
    expect(await registry.bootstrap({})).toEqual(nothing);
    const mine = { adminKey: "my-own-admin-key-1", apiKey: "my-own-api-key-1" };
    expect(await registry.bootstrap(mine)).toEqual(nothing);
    expect(await registry.bootstrap(mine)).toEqual(nothing);
    expect(await eventCount()).toBe(before + 2);
    expect(await roleOf(mine.adminKey)).toBe("admin");
    expect(await roleOf(mine.apiKey)).toBe("project");
    await expect(registry.bootstrap({ apiKey: "short" })).rejects.toThrow("16");
  });

  test("stores hashes, by which keys are found", async () => {
    const rows = await registry.database.sql`
      select role from registry.api_keys where hash = ${hashKey(registry.apiKey)}`;
    expect(rows).toEqual([{ role: "project" }]);
  });

  test("an installation whose admin keys are all revoked gets a new one", async () => {
    const { data } = (await registry.call(registry.adminKey, "GET", "/api/keys")).body;
    for (const { id, role } of data as { id: string; role: string }[]) {
      if (role === "admin") await registry.call(registry.operatorKey, "DELETE", `/api/keys/${id}`);
    }
    expect(await roleOf(registry.adminKey)).toBeUndefined();
    const { generated } = await registry.bootstrap({});
    expect(Object.keys(generated)).toEqual(["adminKey"]);
    expect(await roleOf(generated.adminKey ?? "")).toBe("admin");
  });
});

test("declaring the same settings again writes no event; what the API changed in prices stands", async () => {
  const price = { model: "m", meter: "input", source: "switchyard.yaml" } as const;
  const declared = {
    models: [{ id: "m", upstream: "openai", upstreamModel: "m-1", ownedBy: "openai" }],
    routes: [{ name: "auto", defaultModel: "m", fallbacks: [], tasks: [] }],
    prices: [{ ...price, usdPerToken: "0.10" }],
  };
  await registry.applyDeclared(declared);
  const before = await eventCount();
  await registry.applyDeclared(declared);
  expect(await eventCount()).toBe(before);

  const api = { prices: [{ ...price, usdPerToken: "0.3", source: "invoice" }] };
  registry.clock.nowMs += 1000;
  await registry.call(registry.operatorKey, "POST", "/api/prices", api);
  registry.clock.nowMs += 1000;
  await registry.applyDeclared(declared);
  expect(await eventCount()).toBe(before + 1);
  await registry.applyDeclared({ prices: [{ ...price, usdPerToken: "0.2" }] });
  const { data } = (await registry.call(registry.operatorKey, "GET", "/api/prices")).body;
  expect(data.map((it: { usdPerToken: string }) => it.usdPerToken)).toEqual(["0.1", "0.3", "0.2"]);
});

describe("limits", () => {
  test("bodies beyond their bound are refused, with a length and without one", async () => {
    const large = { name: "x".repeat(4000) };
    const named = await registry.call(registry.operatorKey, "POST", "/api/projects", large);
    expect(named.status).toBe(413);
    const endless = new ReadableStream({
      pull: (controller) => controller.enqueue(new Uint8Array(1024)),
    });
    const answer = await send("/api/projects", registry.operatorKey, { body: endless });
    expect(answer.status).toBe(413);
    expect(errorBody.parse(await answer.json()).error.code).toBe("request_too_large");
  });

  test("a push beyond the limit is told to come back, and the next one is served", async () => {
    await registry.call(registry.operatorKey, "PUT", "/api/models/tiny", tinyModel);
    const manifest = { base: "tiny", name: "x" };
    const whole = new Request("http://x", {
      method: "POST",
      body: pushForm(manifest, buildAdapter()),
    });
    let release = () => {};
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    const body = new ReadableStream({
      async start(controller) {
        await released;
        controller.enqueue(new Uint8Array(await whole.arrayBuffer()));
        controller.close();
      },
    });
    const contentType = whole.headers.get("content-type") ?? "";
    const slow = send("/api/adapters", registry.apiKey, { body, contentType });
    const second = await registry.push(registry.apiKey, manifest);
    expect([second.status, second.body.error.code]).toEqual([503, "server_is_overloaded"]);
    release();
    expect((await slow).status).toBe(201);
    expect((await registry.push(registry.apiKey, manifest)).status).toBe(200);
  });
});

describe("without its database", () => {
  test("the registry answers 503 and when to come back, and tells nothing more", async () => {
    const sql = registry.database.connect();
    const another = await registry.another(sql);
    await sql.end({ timeout: 1 });
    for (const init of [{}, { method: "POST", body: '{"name":"x"}' }]) {
      const request = new Request("http://x/api/projects", {
        ...init,
        headers: { authorization: `Bearer ${registry.operatorKey}` },
      });
      const answer = await another.app.fetch(request);
      const text = await answer.text();
      expect([answer.status, JSON.parse(text).error.code]).toEqual([503, "database_unavailable"]);
      expect(Number(answer.headers.get("retry-after"))).toBeGreaterThan(0);
      expect(text).not.toMatch(/select|insert|CONNECTION|socket/i);
    }
  });

  test("a refused connection counts as away; a wrong statement is our own fault", async () => {
    const nobody = postgres("postgres://127.0.0.1:1/none", { max: 1, connect_timeout: 1 });
    const refused = await nobody`select 1`.catch((error: unknown) => error);
    await nobody.end({ timeout: 1 });
    expect(withDatabaseUnavailable(refused)).toMatchObject({ code: "database_unavailable" });
    const wrong = await registry.database.sql`select nothing`.catch((error: unknown) => error);
    expect(withDatabaseUnavailable(wrong)).toBe(wrong);
  });
});

function send(
  path: string,
  key: string,
  { body, contentType = "application/json" }: { body: ReadableStream; contentType?: string },
): Promise<Response> {
  const headers = { authorization: `Bearer ${key}`, "content-type": contentType };
  return registry.app.fetch(
    new Request(`http://x${path}`, { method: "POST", body, duplex: "half", headers }),
  );
}
