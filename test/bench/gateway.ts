/**
 * What the gateway costs, and how fast it lets go: the upstream called directly, through a bare Hono proxy, and through Switchyard
 * with keys, limits, budget and ledger on. Each lane is a process of its own; the lanes take turns.
 */
import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type OpenAiEmulator, startOpenAiEmulator } from "../emulators/openai.ts";
import { startServer } from "../support/server.ts";
import { measureLeaving } from "./client-leaves.ts";
import { runLoad, type Target } from "./load.ts";
import { type Measured, median, printResults, quantile } from "./report.ts";

const ROUNDS = 5;
const SECONDS_ALONE = 1.5;
const SECONDS_CROWDED = 2;
const CROWD = 32;

export async function run(): Promise<void> {
  const upstream = await startLane("upstream.ts", {});
  const bare = await startLane("bare-proxy.ts", { UPSTREAM: upstream.url });
  const talker = await startOpenAiEmulator({ deltaDelayMs: 5, answer: () => "word ".repeat(1000) });
  const folder = await mkdtemp(join(tmpdir(), "switchyard-bench-"));
  await writeFile(join(folder, "switchyard.yaml"), settingsFor(upstream.url, talker));
  const ours = await startServer({
    env: {
      SWITCHYARD_CONFIG: join(folder, "switchyard.yaml"),
      BENCH_UPSTREAM_KEY: "sk-bench-upstream-key",
    },
  });
  try {
    const lanes = {
      direct: target(upstream.url, "sk-bench-upstream-key"),
      bare: target(bare.url, "sk-bench-upstream-key"),
      switchyard: target(ours.url, ours.apiKey),
    };
    const models = { streaming: "talker", silent: "silent" };
    const leaving = await measureLeaving(lanes.switchyard, talker, models);
    printResults([...(await measure(lanes)), ...leaving]);
  } finally {
    await ours.stop();
    bare.stop();
    upstream.stop();
    await talker.close();
    await rm(folder, { recursive: true, force: true });
  }
}

type LaneName = "direct" | "bare" | "switchyard";

async function measure(lanes: Record<LaneName, Target>): Promise<Measured[]> {
  const names = Object.keys(lanes) as LaneName[];
  for (const name of names) await runLoad(lanes[name], { concurrency: CROWD, seconds: 2 });

  const p50: Record<LaneName, number[]> = { direct: [], bare: [], switchyard: [] };
  const p99: Record<LaneName, number[]> = { direct: [], bare: [], switchyard: [] };
  const perSecond: Record<LaneName, number[]> = { direct: [], bare: [], switchyard: [] };
  for (let round = 0; round < ROUNDS; round++) {
    process.stderr.write(`\rround ${round + 1} of ${ROUNDS}`);
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      const alone = await runLoad(lanes[name], { concurrency: 1, seconds: SECONDS_ALONE });
      p50[name].push(quantile(alone.latenciesMs, 0.5));
      p99[name].push(quantile(alone.latenciesMs, 0.99));
      perSecond[name].push(
        (await runLoad(lanes[name], { concurrency: CROWD, seconds: SECONDS_CROWDED }))
          .requestsPerSecond,
      );
    }
  }
  process.stderr.write("\n");

  const added = (times: Record<LaneName, number[]>, name: LaneName) =>
    Math.max(
      0.001,
      median(times[name].map((value, round) => value - (times.direct[round] as number))),
    );
  const rate = (name: LaneName) => median(perSecond[name]);
  return [
    compare(
      "requests per second, 32 at a time, against a bare Hono proxy",
      "1/s",
      rate("switchyard"),
      rate("bare"),
      rate("switchyard") / rate("bare"),
      0.5,
    ),
    compare(
      "requests per second, 32 at a time, against the upstream itself",
      "1/s",
      rate("switchyard"),
      rate("direct"),
      rate("switchyard") / rate("direct"),
      null,
    ),
    compare(
      "added latency p50, one at a time, against a bare Hono proxy",
      "ms",
      added(p50, "switchyard"),
      added(p50, "bare"),
      added(p50, "bare") / added(p50, "switchyard"),
      0.5,
    ),
    compare(
      "added latency p99, one at a time, against a bare Hono proxy",
      "ms",
      added(p99, "switchyard"),
      added(p99, "bare"),
      added(p99, "bare") / added(p99, "switchyard"),
      0.5,
    ),
  ];
}

function compare(
  name: string,
  unit: string,
  ours: number,
  peer: number,
  ratio: number,
  goal: number | null,
): Measured {
  return { bench: "gateway", case: name, unit, ours, peer, ratio, target: goal };
}

function target(origin: string, key: string): Target {
  return {
    origin,
    path: "/v1/chat/completions",
    headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
    body: JSON.stringify({
      model: "bench-model",
      max_tokens: 64,
      messages: [
        { role: "user", content: "How long does a transfer to another bank take? ".repeat(4) },
      ],
    }),
  };
}

/** The full price of governing: limits and a budget that are checked and never reached. */
function settingsFor(upstreamUrl: string, talker: OpenAiEmulator): string {
  return `
upstreams:
  - { name: bench, type: openai, baseUrl: "${upstreamUrl}/v1", apiKeyEnv: BENCH_UPSTREAM_KEY }
  - { name: talker, type: openai, baseUrl: "${talker.baseUrl}", apiKeyEnv: BENCH_UPSTREAM_KEY }
models:
  - { id: talker, upstream: talker }
  - { id: silent, upstream: talker, upstreamModel: "silent!never" }
  - { id: bench-model, upstream: bench, contextLength: 128000, prices: { input: "0.10", output: "0.50" } }
firstProject:
  limits: { requestsPerMinute: 100000000, tokensPerMinute: 1000000000000, concurrentRequests: 100000 }
  budget: { limitUsd: "1000000", period: month }
`;
}

/** A program of this folder in a process of its own, which prints its address as its first line. */
function startLane(
  file: string,
  env: Record<string, string>,
): Promise<{ url: string; stop(): void }> {
  const child = spawn(
    process.execPath,
    ["--import", "tsx", fileURLToPath(new URL(`./lanes/${file}`, import.meta.url))],
    {
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  return new Promise((resolve, reject) => {
    child.stdout.once("data", (chunk: Buffer) =>
      resolve({ url: chunk.toString().trim(), stop: () => child.kill() }),
    );
    child.once("exit", (code) => reject(new Error(`${file} ended with ${code}`)));
  });
}
