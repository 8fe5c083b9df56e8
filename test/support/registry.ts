/** The real registry over an empty database and an empty data folder, with a project's and an admin's key. */
import { readdirSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pino from "pino";
import type postgres from "postgres";
import { defaultLimits, type RegistryLimits } from "../../registry/config.ts";
import { openRegistry, type Registry } from "../../registry/registry.ts";
import { abortableRequest, inProcessOrigin } from "../../sdk/protocol/http.ts";
import { buildAdapter, tinyShape } from "./adapter.ts";
import { openTestDatabase, type TestDatabase } from "./database.ts";

type Answer = {
  status: number;
  headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: a test reads what it expects and fails where it is not there
  body: any;
};

export type TestRegistry = Registry & {
  database: TestDatabase;
  dataDir: string;
  operatorKey: string;
  adminKey: string;
  apiKey: string;
  projectId: string;
  /** What the registry believes the time to be; a test may set it. */
  clock: { nowMs: number };
  call(key: string, method: string, path: string, body?: unknown): Promise<Answer>;
  push(key: string, manifest: object, files?: ReturnType<typeof buildAdapter>): Promise<Answer>;
  /** A second registry process over the same database and folder. */
  another(sql?: postgres.Sql): Promise<Registry>;
  /** Paths below the artifact folder. */
  storedFiles(): string[];
  close(): Promise<void>;
};

export async function openTestRegistry(
  limits: Partial<RegistryLimits> = {},
): Promise<TestRegistry> {
  const database = await openTestDatabase();
  const dataDir = await mkdtemp(join(tmpdir(), "switchyard-registry-"));
  const operatorKey = "operator-key-for-tests";
  const clock = { nowMs: Date.parse("2026-03-01T00:00:00Z") };
  const open = (sql = database.sql) =>
    openRegistry({
      sql,
      dataDir,
      operatorKey,
      logger: pino({ level: process.env.TEST_LOG ?? "silent" }),
      limits: { ...defaultLimits, snapshotPollMs: 50, ...limits },
      now: () => clock.nowMs,
    });
  const registry = await open();
  const { projectId, generated } = await registry.bootstrap({});

  const send = async (key: string, method: string, path: string, init: RequestInit) => {
    const headers = { authorization: `Bearer ${key}`, ...(init.headers as Record<string, string>) };
    const request = abortableRequest(inProcessOrigin + path, { ...init, method, headers });
    const response = await registry.app.fetch(request);
    const isJson = response.headers.get("content-type")?.includes("json");
    return {
      status: response.status,
      headers: response.headers,
      body: isJson ? await response.json() : Buffer.from(await response.arrayBuffer()),
    };
  };
  return {
    ...registry,
    database,
    dataDir,
    operatorKey,
    adminKey: generated.adminKey!,
    apiKey: generated.apiKey!,
    projectId,
    clock,
    call: (key, method, path, body) =>
      send(key, method, path, body === undefined ? {} : { body: JSON.stringify(body) }),
    push: (key, manifest, files = buildAdapter()) =>
      send(key, "POST", "/api/adapters", { body: pushForm(manifest, files) }),
    another: (sql = database.connect()) => open(sql),
    storedFiles: () => {
      try {
        return readdirSync(join(dataDir, "artifacts"), { recursive: true, encoding: "utf8" });
      } catch {
        return [];
      }
    },
    async close() {
      await database.close();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

/** A base model that `buildAdapter` fits, as `PUT /api/models/:id` takes it. */
export const tinyModel = {
  upstream: "embedded",
  upstreamModel: "tiny",
  ownedBy: "switchyard",
  base: { digest: "ba5e".repeat(16), shape: tinyShape },
};

export function pushForm(manifest: object, files: ReturnType<typeof buildAdapter>): FormData {
  const form = new FormData();
  form.set("manifest", JSON.stringify(manifest));
  form.set("adapter_config.json", new Blob([files.config]), "adapter_config.json");
  form.set("adapter_model.safetensors", new Blob([files.weights]), "adapter_model.safetensors");
  return form;
}
