/** Gateways for tests of what is kept: real ones on one real database, two projects, an emulated OpenAI behind them. */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI from "openai";
import { pino } from "pino";
import type { GatewayLimits } from "../../gateway/config.ts";
import { type OpenedGateway, openGateway } from "../../gateway/open-gateway.ts";
import { abortableRequest } from "../../sdk/protocol/http.ts";
import {
  type OpenAiEmulator,
  type OpenAiEmulatorOptions,
  startOpenAiEmulator,
} from "../emulators/openai.ts";
import { openTestDatabase, type TestDatabase } from "./database.ts";
import { testRegistry } from "./gateway.ts";
import { testKey, testModel, testPrices, testProject, testSnapshot } from "./policy.ts";

export type KeptGateway = {
  database: TestDatabase;
  emulator: OpenAiEmulator;
  gateway: OpenedGateway;
  /** The official client of one project; the other's is `client("other")`. */
  client(project?: "acme" | "other", gateway?: OpenedGateway): OpenAI;
  /** Another gateway on the same database, with its own connections. */
  another(): Promise<OpenedGateway>;
  close(): Promise<void>;
};

/**
 * `gpt-test` and `gpt-test!…` with faults speak chat completions, and `gpt-passing` is asked for responses as they came.
 */
export async function openKeptGateway({
  limits,
  now,
  faults = [],
  ...emulated
}: OpenAiEmulatorOptions & {
  limits?: Partial<GatewayLimits>;
  now?: () => number;
  /** Such as `cut:3`. */
  faults?: readonly string[];
}): Promise<KeptGateway> {
  const database = await openTestDatabase();
  const emulator = await startOpenAiEmulator(emulated);
  const folders: string[] = [];
  const gateways: OpenedGateway[] = [];
  const [acme, other] = [testProject("acme"), testProject("other")];
  const models = [
    testModel("gpt-test"),
    testModel("gpt-passing", { upstream: "responses", upstreamModel: "gpt-test" }),
    ...faults.flatMap((fault) => {
      const [name = ""] = fault.split(":");
      const upstreamModel = `gpt-test!${fault}`;
      return [
        testModel(name, { upstreamModel }),
        testModel(`${name}-passing`, { upstream: "responses", upstreamModel }),
      ];
    }),
  ];
  const snapshot = testSnapshot({
    projects: [acme, other],
    keys: [
      testKey(keys.acme, { projectId: acme.id }),
      testKey(keys.other, { projectId: other.id }),
    ],
    models,
    prices: testPrices("gpt-test", { input: "0.00000015", output: "0.0000006" }),
  });
  const open = async (sql: TestDatabase["sql"]) => {
    const dataDir = await mkdtemp(join(tmpdir(), "switchyard-kept-"));
    folders.push(dataDir);
    const { baseUrl } = emulator;
    const gateway = await openGateway({
      sql,
      dataDir,
      upstreams: [
        { name: "emulated", type: "openai", baseUrl },
        { name: "responses", type: "openai", baseUrl, api: "both" },
      ],
      registry: testRegistry(snapshot, operatorKey),
      operatorKey,
      logger: pino({ level: "silent" }),
      limits: { drainTimeoutMs: 200, ...limits },
      ...(now && { now }),
    });
    gateways.push(gateway);
    await gateway.start();
    return gateway;
  };
  const gateway = await open(database.sql);
  return {
    database,
    emulator,
    gateway,
    client: (project = "acme", through = gateway) =>
      new OpenAI({
        apiKey: keys[project],
        baseURL: "http://gateway/v1",
        maxRetries: 0,
        fetch: async (url, init) => through.app.fetch(abortableRequest(url as string, init ?? {})),
      }),
    another: () => open(database.connect()),
    async close() {
      for (const one of gateways) await one.stop();
      await emulator.close();
      await database.close();
      for (const folder of folders) await rm(folder, { recursive: true });
    },
  };
}

const operatorKey = "operator-key-of-the-tests";
const keys = { acme: "sk-sy-key-of-acme", other: "sk-sy-key-of-other" };
