/** What the tests of metering share: a project with a key, prices, a settlement, a folder, a clock. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type ApiKey,
  apiKey,
  type Price,
  type PriceTier,
  type Project,
  price,
  project,
} from "../../sdk/protocol/catalog.ts";
import { newId } from "../../sdk/protocol/ids.ts";
import type { Meter } from "../../sdk/protocol/usage.ts";
import type { PriceSource } from "../ledger/price-book.ts";
import { connectRedis, type Redis } from "./redis.ts";
import type { Principal, ReserveRequest, Settlement } from "./types.ts";

export const testTimeMs = Date.parse("2026-11-21T12:00:00Z");

export type PrincipalOverrides = {
  project?: Partial<Omit<Project, "id">>;
  key?: Partial<Omit<ApiKey, "id">>;
};

export function testPrincipal(overrides: PrincipalOverrides = {}): Principal {
  const owner = project.parse({
    id: newId("proj"),
    name: "acme",
    limits: {},
    unpriced: "allow",
    archived: false,
    ...overrides.project,
  });
  const key = apiKey.parse({
    id: newId("key"),
    hash: "0".repeat(64),
    name: "test",
    role: "project",
    projectId: owner.id,
    limits: {},
    ...overrides.key,
  });
  return { project: owner, key };
}

/** Dollars a token by `model/meter`, such as `{ "gpt/input": "0.000001", "gpt/input/batch": "0.0000005" }`. */
export function testPrices(perToken: Record<string, string>): PriceSource {
  const rows = new Map<string, Price>();
  for (const [name, usdPerToken] of Object.entries(perToken)) {
    const [model, meter, tier] = name.split("/");
    const row = price.parse({
      id: newId("price"),
      model,
      meter,
      tier,
      usdPerToken,
      validFrom: "2026-01-01T00:00:00Z",
      recordedAt: "2026-01-01T00:00:00Z",
      source: "test",
    });
    rows.set(name, row);
  }
  return (model: string, meter: Meter, _atMs: number, tier?: PriceTier) =>
    rows.get(tier ? `${model}/${meter}/${tier}` : `${model}/${meter}`);
}

export function testReserve(
  principal: Principal,
  overrides: Partial<ReserveRequest> = {},
): ReserveRequest {
  return {
    requestId: newId("req"),
    principal,
    models: [{ model: "gpt" }],
    endUser: undefined,
    inputTokens: 100,
    outputTokensMax: 50,
    ...overrides,
  };
}

export function testSettlement(overrides: Partial<Settlement> = {}): Settlement {
  return {
    answered: { model: "gpt", upstream: "openai" },
    usage: { input: 100, output: 20 },
    estimated: false,
    outcome: "ok",
    httpStatus: 200,
    requestedModel: "gpt",
    tags: {},
    stream: false,
    startedAtMs: testTimeMs,
    durationMs: 250,
    ...overrides,
  };
}

export async function withFolder<T>(use: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), "switchyard-metering-"));
  try {
    return await use(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

export const testRedisUrl = process.env.TEST_REDIS_URL || "redis://127.0.0.1:6379";

/** A Redis to test with, or the reason why there is none. */
export async function openTestRedis(): Promise<Redis | string> {
  const redis = connectRedis(testRedisUrl, { timeoutMs: 5_000 });
  redis.on("error", () => {});
  try {
    await redis.connect();
    return redis;
  } catch {
    redis.disconnect();
    return `no Redis answers at ${testRedisUrl} (TEST_REDIS_URL)`;
  }
}
