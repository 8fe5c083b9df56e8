/** Registry and ledger of the gateway benchmark, in a process of their own: what they take is not the gateway's. */
import { mkdtemp } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { PGlite } from "@electric-sql/pglite";
import { PGLiteSocketServer } from "@electric-sql/pglite-socket";
import { serve } from "@hono/node-server";
import { drizzle } from "drizzle-orm/postgres-js";
import pino from "pino";
import postgres from "postgres";
import { withWholeExchanges } from "../../../../deploy/all-in-one/whole-exchanges.ts";
import { generateKey, hashKey } from "../../../../registry/keys.ts";
import { openRegistry } from "../../../../registry/registry.ts";
import { apiKeys, organizations, projects } from "../../../../registry/schema.ts";
import type { Budget } from "../../../../sdk/protocol/catalog.ts";
import { newId } from "../../../../sdk/protocol/ids.ts";

export type Policy = {
  registryUrl: string;
  databaseUrl: string;
  adminKey: string;
  /** Of a project with limits and a budget that are never reached. */
  governedKey: string;
  /** Of a project without either. */
  freeKey: string;
  /** Of all the projects that `SHAPE` asks for. */
  keys: string[];
};

/** How much policy there is besides: keys, spread over projects, each under so many budgets. */
export type Shape = { keys: number; projects: number; budgetsDeep: number };

const {
  OPERATOR_KEY: operatorKey = "",
  FOLDER: folder = "",
  SHAPE: shape = '{"keys":0,"projects":0,"budgetsDeep":0}',
} = process.env;
const limits = {
  requestsPerMinute: 100_000_000,
  tokensPerMinute: 1_000_000_000_000,
  concurrentRequests: 100_000,
};
/** By our name; the emulator never answers the last. */
const models = {
  "bench-model": "bench-model",
  "bench-free": "bench-model",
  "bench-silent": "silent!never",
};
const database = new PGLiteSocketServer({
  // On disk: a million requests are more than it may hold in memory.
  db: withWholeExchanges(await PGlite.create(await mkdtemp(join(folder, "ledger-")))),
  host: "127.0.0.1",
  port: 0,
  maxConnections: 32,
});
await database.start();
const databaseUrl = `postgres://postgres@${database.getServerConn()}/postgres`;
const sql = postgres(databaseUrl, { max: 2, onnotice: () => {} });
const registry = await openRegistry({
  sql,
  dataDir: await mkdtemp(join(folder, "registry-")),
  operatorKey,
  logger: pino({ level: "silent" }),
});
const governedKey = generateKey("project");
const adminKey = generateKey("admin");
const budget: Budget = { limitUsd: "1000000", period: "month" };
await registry.bootstrap({ adminKey, apiKey: governedKey, limits, budget });
const [freeKey = ""] = await addProject("free", { keys: 1, budgets: [], keyBudgets: [] });
const keys = await addMany(JSON.parse(shape) as Shape);
await registry.applyDeclared({
  models: Object.entries(models).map(([id, upstreamModel]) => ({
    id,
    upstream: "bench",
    upstreamModel,
    ownedBy: "bench",
    contextLength: 128_000,
  })),
  prices: (["input", "output"] as const).map((meter) => ({
    model: "bench-model",
    meter,
    usdPerToken: "0.0000001",
    source: "bench",
  })),
});
const server = serve({ fetch: registry.app.fetch, hostname: "127.0.0.1", port: 0 }, () => {
  const registryUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const policy: Policy = { registryUrl, databaseUrl, adminKey, governedKey, freeKey, keys };
  console.log(JSON.stringify(policy));
});

/** Half of the budgets are the organization's, the others their project's, and one is the key's own. */
async function addMany({ keys, projects: count, budgetsDeep }: Shape): Promise<string[]> {
  if (count === 0) return [];
  const above = budgetsDeep - 1;
  const ofOrganization = Math.floor(above / 2);
  await drizzle(sql)
    .insert(organizations)
    .values({ id: "organization", budgets: budgetsOf(ofOrganization) });
  const all: string[] = [];
  for (let index = 0; index < count; index++) {
    const made = await addProject(`project-${index}`, {
      keys: Math.ceil((keys - all.length) / (count - index)),
      limits,
      budgets: budgetsOf(above - ofOrganization),
      keyBudgets: budgetsOf(1),
    });
    all.push(...made);
  }
  return all;
}

/** Written into the tables, because a hundred thousand calls of the registry would take all day. */
async function addProject(
  name: string,
  about: { keys: number; limits?: typeof limits; budgets: Budget[]; keyBudgets: Budget[] },
): Promise<string[]> {
  const db = drizzle(sql);
  const id = newId("proj");
  const createdAt = new Date();
  const own = about.limits ?? {};
  await db
    .insert(projects)
    .values({ id, name, limits: own, budgets: about.budgets, unpriced: "allow", createdAt });
  const made = Array.from({ length: about.keys }, () => generateKey("project"));
  await db.insert(apiKeys).values(
    made.map((key, index) => ({
      id: newId("key"),
      hash: hashKey(key),
      name: `${name} ${index}`,
      role: "project" as const,
      projectId: id,
      limits: own,
      budgets: about.keyBudgets,
      createdAt,
    })),
  );
  return made;
}

/** Of different periods, since two of one period would count the same. */
function budgetsOf(count: number): Budget[] {
  return Array.from({ length: count }, (_, index) => ({
    limitUsd: "1000000",
    period: "custom",
    everyDays: index + 30,
    anchor: "2026-01-01",
  }));
}
