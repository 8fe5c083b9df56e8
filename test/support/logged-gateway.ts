/** Gateways for tests of the log: on one database, two projects and an admin, an emulated OpenAI behind them. */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import type { GatewayLimits } from "../../gateway/config.ts";
import {
  type OpenedGateway,
  type OpenGatewayParts,
  openGateway,
} from "../../gateway/open-gateway.ts";
import type { Project, Snapshot } from "../../sdk/protocol/catalog.ts";
import { abortableRequest } from "../../sdk/protocol/http.ts";
import { type SseEvent, SseParser } from "../../sdk/protocol/sse.ts";
import {
  type OpenAiEmulator,
  type OpenAiEmulatorOptions,
  startOpenAiEmulator,
} from "../emulators/openai.ts";
import { openTestDatabase, type TestDatabase } from "./database.ts";
import { type TestRegistry, testRegistry } from "./gateway.ts";
import { testKey, testModel, testPrices, testProject, testSnapshot } from "./policy.ts";

export type LoggedGateway = {
  database: TestDatabase;
  emulator: OpenAiEmulator;
  gateway: OpenedGateway;
  registry: TestRegistry;
  policy: Snapshot;
  ask(key: string, path: string, init?: RequestInit, through?: OpenedGateway): Promise<Response>;
  /** One chat completion. @returns the request's id */
  chat(key: string, body?: object, through?: OpenedGateway): Promise<string>;
  /** Another gateway on the same database, with its own connections. */
  another(more?: Partial<OpenGatewayParts>): Promise<OpenedGateway>;
  close(): Promise<void>;
};

export const logKeys = {
  acme: "sk-sy-key-of-acme",
  other: "sk-sy-key-of-other",
  admin: "sk-sy-admin-key",
};

export async function openLoggedGateway({
  limits,
  emulated = {},
  acme: ofAcme = {},
  other: ofOther = {},
  ...parts
}: {
  limits?: Partial<GatewayLimits>;
  emulated?: OpenAiEmulatorOptions;
  /** What the projects have beside their names. */
  acme?: Partial<Project>;
  other?: Partial<Project>;
} & Pick<OpenGatewayParts, "contentLogKey" | "now" | "random"> = {}): Promise<LoggedGateway> {
  const database = await openTestDatabase();
  const emulator = await startOpenAiEmulator(emulated);
  const folders: string[] = [];
  const gateways: OpenedGateway[] = [];
  const [acme, other] = [testProject("acme", ofAcme), testProject("other", ofOther)];
  const policy = testSnapshot({
    projects: [acme, other],
    keys: [
      testKey(logKeys.acme, { projectId: acme.id }),
      testKey(logKeys.other, { projectId: other.id }),
      testKey(logKeys.admin, { role: "admin" }),
    ],
    models: [testModel("gpt-test"), testModel("broken", { upstreamModel: "gpt-test!status:500" })],
    prices: testPrices("gpt-test", { input: "0.00000015", output: "0.0000006" }),
  });
  const registry = testRegistry(policy, operatorKey);
  const open = async (sql: TestDatabase["sql"], more: Partial<OpenGatewayParts> = {}) => {
    const dataDir = await mkdtemp(join(tmpdir(), "switchyard-log-"));
    folders.push(dataDir);
    const gateway = await openGateway({
      sql,
      dataDir,
      upstreams: [{ name: "emulated", type: "openai", baseUrl: emulator.baseUrl }],
      registry,
      operatorKey,
      logger: pino({ level: "silent" }),
      limits: { drainTimeoutMs: 200, retriesMax: 0, liveLogPollMs: 20, ...limits },
      ...parts,
      ...more,
    });
    gateways.push(gateway);
    await gateway.start();
    return gateway;
  };
  const gateway = await open(database.sql);
  const ask: LoggedGateway["ask"] = async (key, path, init = {}, through = gateway) =>
    through.app.fetch(
      abortableRequest(`http://gateway${path}`, {
        ...init,
        headers: { authorization: `Bearer ${key}`, ...init.headers },
      }),
    );
  return {
    database,
    emulator,
    gateway,
    registry,
    policy,
    ask,
    async chat(key, body = {}, through = gateway) {
      const messages = [{ role: "user", content: "Hello." }];
      const response = await ask(
        key,
        "/v1/chat/completions",
        {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ model: "gpt-test", messages, ...body }),
        },
        through,
      );
      await response.text();
      return response.headers.get("x-request-id") ?? "";
    },
    another: (more) => open(database.connect(), more),
    async close() {
      for (const one of gateways) await one.stop();
      await emulator.close();
      await database.close();
      for (const folder of folders) await rm(folder, { recursive: true });
    },
  };
}

/** The next events, as many as are wanted; ends the stream unless it is to go on. */
export function eventsOf(response: Response) {
  const reader = response.body?.getReader();
  const parser = new SseParser();
  const ready: SseEvent[] = [];
  return {
    async next(): Promise<
      { event: string | undefined; data: Record<string, unknown> } | undefined
    > {
      while (ready.length === 0) {
        const read = await reader?.read();
        if (!read || read.done) return undefined;
        ready.push(...parser.push(read.value));
      }
      const { event, data } = ready.shift() as SseEvent;
      return { event, data: JSON.parse(data) };
    },
    cancel: () => reader?.cancel(),
  };
}

const operatorKey = "operator-key-of-the-tests";
