/** What all lanes share: an upstream, clients, registry and ledger, and the gateway, each a process of its own. */
import { type ChildProcess, fork } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { launch, type Program } from "../../support/server.ts";
import { startLane } from "../start-lane.ts";
import type { Options } from "./options.ts";
import type { LoadOrder, LoadReport } from "./programs/load.ts";
import type { Policy } from "./programs/policy.ts";
import { formats } from "./wire.ts";

export type RunningGateway = { url: string; pid: number; stop(): Promise<void> };

export type Setting = Pick<Options, "pairs" | "quick"> & {
  /** A full run's number, or a little one that shows that all runs. */
  full(number: number, quick: number): number;
  upstreamUrl: string;
  apiKey: string;
  openGateway(): Promise<RunningGateway>;
  load(order: LoadOrder): Promise<LoadReport>;
  /** Tells who waits what goes on. */
  tell(text: string): void;
  close(): Promise<void>;
};

/** @param folder a temporary one */
export async function prepare(options: Options, folder: string): Promise<Setting> {
  const operatorKey = randomBytes(16).toString("hex");
  const key = (name: string) => `sk-bench-${name}-${randomBytes(12).toString("hex")}`;
  const upstream = await startLane(new URL("./programs/upstream.ts", import.meta.url), {});
  const policyLane = await startLane(new URL("./programs/policy.ts", import.meta.url), {
    OPERATOR_KEY: operatorKey,
    ADMIN_KEY: key("admin"),
    API_KEY: key("project"),
  });
  const policy = JSON.parse(policyLane.said) as Policy;
  const clients = fork(fileURLToPath(new URL("./programs/load.ts", import.meta.url)), {
    execArgv: ["--import", "tsx"],
    serialization: "advanced",
  });
  const gateways = new Set<Program>();
  return {
    pairs: options.pairs,
    quick: options.quick,
    full: (number, little) => (options.quick ? little : number),
    upstreamUrl: upstream.said,
    apiKey: policy.apiKey,
    tell: (text) => process.stderr.write(`  ${text}\n`),
    load: (order) => loadOnce(clients, order),
    async openGateway() {
      const profiled =
        options.profile === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${options.profile}`];
      const gateway = launch([...profiled, "--import", "tsx", "gateway/main.ts"], {
        HOST: "127.0.0.1",
        PORT: "0",
        SWITCHYARD_DATA_DIR: await mkdtemp(join(folder, "gateway-")),
        SWITCHYARD_OPERATOR_KEY: operatorKey,
        SWITCHYARD_REGISTRY_URL: policy.registryUrl,
        SWITCHYARD_UPSTREAMS: JSON.stringify(upstreamsAt(upstream.said)),
        DATABASE_URL: policy.databaseUrl,
      });
      gateways.add(gateway);
      const port = await gateway.said(/"port":(\d+)\}?,"msg":"the gateway serves"/);
      return {
        url: `http://127.0.0.1:${port}`,
        pid: gateway.pid,
        async stop() {
          gateways.delete(gateway);
          await gateway.end("SIGTERM");
        },
      };
    },
    async close() {
      for (const gateway of gateways) await gateway.end("SIGKILL");
      clients.kill();
      policyLane.stop();
      upstream.stop();
    },
  };
}

function loadOnce(clients: ChildProcess, order: LoadOrder): Promise<LoadReport> {
  return new Promise((resolve, reject) => {
    clients.once("message", (answer: { report: LoadReport } | { failed: string }) => {
      if ("report" in answer) resolve(answer.report);
      else reject(new Error(answer.failed));
    });
    clients.send(order);
  });
}

/** One for each format, all of them the same process. */
function upstreamsAt(url: string): object[] {
  const apiKey = "sk-bench-upstream";
  const types = {
    "openai-chat": { type: "openai", baseUrl: `${url}/v1`, api: "chat" },
    "openai-responses": { type: "openai", baseUrl: `${url}/v1`, api: "responses" },
    "anthropic-messages": { type: "anthropic", baseUrl: `${url}/v1` },
    gemini: { type: "gemini", baseUrl: `${url}/v1beta` },
    "bedrock-converse": { type: "bedrock", baseUrl: url, region: "us-east-1" },
  };
  return [
    ...formats.map((name) => ({ name, apiKey, ...types[name] })),
    { name: "openai-like", apiKey, type: "deepseek", baseUrl: `${url}/v1` },
  ];
}
