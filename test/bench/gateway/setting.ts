/** What all lanes share: an upstream, clients, registry and ledger, and gateways, each a process of its own. */
import { type ChildProcess, fork, spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { residentBytes } from "../process-memory.ts";
import { familyOf, processorMs } from "../process-time.ts";
import { type StartedLane, startLane } from "../start-lane.ts";
import type { Options } from "./options.ts";
import type { LoadOrder, LoadReport, Order, StormOrder, StormReport } from "./programs/load.ts";
import type { Policy, Shape } from "./programs/policy.ts";
import type { Asked } from "./raw-http.ts";

export type RunningGateway = {
  url: string;
  pid: number;
  /** Where V8 is asked what it does, by the protocol of its debugger; there where that was wanted. */
  inspectorUrl: string | undefined;
  /** Processor time that it has used, of all its processes. */
  processorMs(): number;
  residentMb(): number;
  stop(): Promise<void>;
};

export type GatewayOptions = {
  policy: Policy;
  /** Several share limits and budgets in Redis. */
  workers?: number;
  redisUrl?: string | undefined;
  /** What differs of `SWITCHYARD_METERING`. */
  metering?: Record<string, number>;
  /** Where other than at the benchmark's own upstream models are. */
  upstreamUrl?: string;
  /** The built gateway of another checkout, to be compared with this one's. */
  program?: string;
  /** Whether V8 can be asked what it does. */
  inspected?: boolean;
};

export type Setting = Pick<Options, "quick" | "requests" | "profile"> & {
  folder: string;
  /** A full run's number, or a little one that shows that all runs. */
  full(number: number, quick: number): number;
  upstream: { url: string; key: string; processorMs(): number };
  /** Made once for each shape; absent is one key, one project and one budget. */
  policy(shape?: Shape): Promise<Policy>;
  openGateway(options: GatewayOptions): Promise<RunningGateway>;
  load(order: Omit<LoadOrder, "type">): Promise<LoadReport>;
  storm(order: Omit<StormOrder, "type">): Promise<StormReport>;
  /** Tells who waits what goes on. */
  tell(text: string): void;
  close(): Promise<void>;
};

/** @param folder a temporary one */
export async function prepare(options: Options, folder: string): Promise<Setting> {
  process.stderr.write("  building\n");
  const built = spawnSync(process.execPath, ["--import", "tsx", fileURLToPath(buildProgram)]);
  if (built.status !== 0) throw new Error(`the build failed:\n${built.stdout}${built.stderr}`);
  const operatorKey = randomBytes(16).toString("hex");
  const upstream = await startLane(new URL("./programs/upstream.ts", import.meta.url), {});
  const upstreamKey = "sk-bench-upstream-key";
  const clients = fork(fileURLToPath(new URL("./programs/load.ts", import.meta.url)), {
    execArgv: ["--import", "tsx"],
    serialization: "advanced",
  });
  const policies = new Map<string, Promise<StartedLane>>();
  const gateways = new Set<ChildProcess>();
  return {
    quick: options.quick,
    requests: options.requests,
    profile: options.profile,
    folder,
    full: (number, little) => (options.quick ? little : number),
    upstream: {
      url: upstream.said,
      key: upstreamKey,
      processorMs: () => processorMs(upstream.pid),
    },
    async policy(shape) {
      const name = JSON.stringify(shape ?? { keys: 0, projects: 0, budgetsDeep: 0 });
      const started =
        policies.get(name) ??
        startLane(new URL("./programs/policy.ts", import.meta.url), {
          OPERATOR_KEY: operatorKey,
          FOLDER: folder,
          SHAPE: name,
        });
      policies.set(name, started);
      return JSON.parse((await started).said) as Policy;
    },
    tell: (text) => process.stderr.write(`  ${text}\n`),
    load: (order) => askClients<LoadReport>(clients, { type: "load", ...order }),
    storm: (order) => askClients<StormReport>(clients, { type: "storm", ...order }),
    async openGateway(about) {
      const { policy, workers = 1, redisUrl, metering = {}, upstreamUrl, inspected } = about;
      const { program = fileURLToPath(gatewayProgram) } = about;
      const child = spawn(
        process.execPath,
        [...(inspected ? ["--inspect=127.0.0.1:0"] : []), program],
        {
          stdio: ["ignore", "pipe", inspected ? "pipe" : "inherit"],
          env: {
            ...process.env,
            HOST: "127.0.0.1",
            PORT: "0",
            WORKERS: String(workers),
            ...(redisUrl !== undefined && { REDIS_URL: redisUrl }),
            SWITCHYARD_DATA_DIR: await mkdtemp(join(folder, "gateway-")),
            SWITCHYARD_OPERATOR_KEY: operatorKey,
            SWITCHYARD_REGISTRY_URL: policy.registryUrl,
            SWITCHYARD_METERING: JSON.stringify(metering),
            SWITCHYARD_UPSTREAMS: JSON.stringify([
              {
                name: "bench",
                type: "openai",
                baseUrl: `${upstreamUrl ?? upstream.said}/v1`,
                apiKey: upstreamKey,
              },
            ]),
            DATABASE_URL: policy.databaseUrl,
          },
        },
      );
      gateways.add(child);
      const { pid = 0 } = child;
      const inspector = inspected ? said(child.stderr, /(ws:\S+)/) : undefined;
      const port = await portOf(child, workers);
      return {
        url: `http://127.0.0.1:${port}`,
        pid,
        inspectorUrl: await inspector,
        processorMs: () => processorMs(pid),
        residentMb: () => familyOf(pid).reduce((sum, one) => sum + residentBytes(one), 0) / 1e6,
        async stop() {
          gateways.delete(child);
          await ended(child, "SIGTERM");
        },
      };
    },
    async close() {
      for (const gateway of gateways) await ended(gateway, "SIGKILL");
      clients.kill();
      for (const policy of policies.values()) (await policy.catch(() => undefined))?.stop();
      upstream.stop();
    },
  };
}

/** The chat that is asked over and over: 256 bytes. */
export function chatAt(
  origin: string,
  headers: Record<string, string>,
  { model = "bench-model", stream = false }: { model?: string; stream?: boolean } = {},
): Asked {
  const ask = (content: string) =>
    JSON.stringify({
      model,
      ...(stream ? { stream } : { max_tokens: 64 }),
      messages: [{ role: "user", content }],
    });
  const question = "How long does a transfer take? ".repeat(9);
  return {
    origin,
    path: "/v1/chat/completions",
    headers: { "content-type": "application/json", ...headers },
    body: ask(question.slice(0, 256 - ask("").length)),
  };
}

export const bearer = (key: string) => ({ authorization: `Bearer ${key}` });

/** Once all workers serve. What they log is read and let go, as a collector of logs would. */
function portOf(child: ChildProcess, workers: number): Promise<string> {
  return new Promise((resolve, reject) => {
    let output = "";
    const look = (chunk: Buffer) => {
      output += chunk.toString();
      const ports = [...output.matchAll(/"port":(\d+)\}?,"msg":"the gateway serves"/g)];
      const port = ports[0]?.[1];
      if (port === undefined || ports.length < workers) return;
      child.stdout?.off("data", look).resume();
      resolve(port);
    };
    child.stdout?.on("data", look);
    child.once("exit", (code) => reject(new Error(`the gateway ended with ${code}:\n${output}`)));
  });
}

/** What the pattern's group catches of a stream; what follows is let go. */
function said(stream: Readable | null, pattern: RegExp): Promise<string> {
  return new Promise((resolve) => {
    let output = "";
    stream?.on("data", (chunk: Buffer) => {
      output += chunk.toString();
      const found = pattern.exec(output)?.[1];
      if (found === undefined) return;
      stream.removeAllListeners("data").resume();
      resolve(found);
    });
  });
}

function ended(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve();
    child.once("exit", () => resolve());
    child.kill(signal);
  });
}

function askClients<R>(clients: ChildProcess, order: Order): Promise<R> {
  return new Promise((resolve, reject) => {
    clients.once("message", (answer: { report: R } | { failed: string }) => {
      if ("report" in answer) resolve(answer.report);
      else reject(new Error(answer.failed));
    });
    clients.send(order);
  });
}

const buildProgram = new URL("../../../deploy/build/main.ts", import.meta.url);
/** What runs the sources gives each function its name anew whenever it is made, which costs every request. */
const gatewayProgram = new URL("../../../dist/gateway/main.js", import.meta.url);
