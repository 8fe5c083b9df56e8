/** Other gateways in front of the same upstream, where they are at hand; each is a process of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export type GatewayPeer = {
  name: "Portkey" | "LiteLLM";
  origin: string;
  pid: number;
  headers: Record<string, string>;
  stop(): void;
};

export type Upstream = { origin: string; key: string; folder: string };

/** How to have them here, for whoever reads that one is missing. */
export const howToGetPeers = `Portkey: PORTKEY_MODULES names a node_modules folder with @portkey-ai/gateway@1.15.2.
LiteLLM: LITELLM_PYTHON names a Python interpreter with 'litellm[proxy]'.`;

/** @throws Error when one that is there does not come up */
export async function startPeers(upstream: Upstream): Promise<GatewayPeer[]> {
  const started = [await startPortkey(upstream), await startLiteLlm(upstream)];
  return started.filter((peer) => peer !== undefined);
}

async function startPortkey({ origin, key }: Upstream): Promise<GatewayPeer | undefined> {
  const modules = process.env.PORTKEY_MODULES;
  const program = modules && join(modules, "@portkey-ai/gateway/build/start-server.js");
  if (!program || !existsSync(program)) return undefined;
  const port = await freePort();
  const child = spawn(process.execPath, [program, `--port=${port}`, "--headless"], {
    stdio: "ignore",
    env: { ...process.env, NODE_ENV: "production" },
  });
  const peer: GatewayPeer = {
    name: "Portkey",
    origin: `http://127.0.0.1:${port}`,
    pid: child.pid ?? 0,
    headers: {
      authorization: `Bearer ${key}`,
      "x-portkey-provider": "openai",
      "x-portkey-custom-host": `${origin}/v1`,
    },
    stop: () => void child.kill(),
  };
  await comesUp(child, `${peer.origin}/`, peer.name);
  return peer;
}

async function startLiteLlm({ origin, key, folder }: Upstream): Promise<GatewayPeer | undefined> {
  const python = process.env.LITELLM_PYTHON;
  if (!python) return undefined;
  const config = join(folder, "litellm.yaml");
  const model = `{ model: openai/bench-model, api_base: "${origin}/v1", api_key: ${key} }`;
  await writeFile(
    config,
    `model_list:\n  - model_name: bench-model\n    litellm_params: ${model}\n`,
  );
  const port = await freePort();
  const master = `sk-${randomBytes(24).toString("hex")}`;
  const run = "from litellm.proxy.proxy_cli import run_server; run_server()";
  const args = ["-c", run, "--config", config, "--host", "127.0.0.1", "--port", String(port)];
  const child = spawn(python, args, {
    stdio: "ignore",
    env: { ...process.env, LITELLM_MASTER_KEY: master, LITELLM_LOG: "ERROR" },
  });
  const peer: GatewayPeer = {
    name: "LiteLLM",
    origin: `http://127.0.0.1:${port}`,
    pid: child.pid ?? 0,
    headers: { authorization: `Bearer ${master}` },
    stop: () => void child.kill(),
  };
  await comesUp(child, `${peer.origin}/health/liveliness`, peer.name);
  return peer;
}

async function comesUp(child: ChildProcess, url: string, name: string): Promise<void> {
  process.once("exit", () => child.kill());
  for (let attempt = 0; attempt < startAttempts; attempt++) {
    if (child.exitCode !== null) throw new Error(`${name} ended with ${child.exitCode}`);
    const answer = await fetch(url).catch(() => undefined);
    if (answer?.ok) return;
    await sleep(startPauseMs);
  }
  child.kill();
  throw new Error(`${name} did not come up at ${url}`);
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no port was given");
  return address.port;
}

const startPauseMs = 250;
/** A minute and a half: a Python process with many modules takes its time. */
const startAttempts = 360;
