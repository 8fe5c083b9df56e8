/** Two processes against one, with the same limits and budgets, which are in Redis. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { availableParallelism } from "node:os";
import { resultOf } from "../../engine/result.ts";
import { median, round } from "../../report.ts";
import { bearer, chatAt } from "../setting.ts";
import { crowd, takeTurns } from "../turns.ts";
import type { Lane } from "./table.ts";

const target = 1.8;
/** Two for the gateway, and one for each of upstream, clients, Redis and ledger, who take much less. */
const coresMin = 4;

export const workers: Lane = async function* (setting) {
  if (spawnSync("redis-server", ["--version"]).status !== 0) {
    throw new Error("several processes share limits and budgets in Redis, which is not here");
  }
  const policy = await setting.policy();
  const redis = await startRedis();
  const redisUrl = `redis://127.0.0.1:${redis.port}`;
  const two = await setting.openGateway({ policy, workers: 2, redisUrl });
  const one = await setting.openGateway({ policy, redisUrl });
  const alone = await setting.openGateway({ policy });
  try {
    const side = (name: "two" | "one" | "alone", gateway: typeof one) => ({
      name,
      order: { asked: chatAt(gateway.url, bearer(policy.governedKey)) },
      processorMs: gateway.processorMs,
    });
    const turns = await takeTurns(
      setting,
      [side("two", two), side("one", one), side("alone", alone)],
      { rounds: setting.full(7, 1), seconds: setting.full(3, 0.5), concurrency: 2 * crowd },
    );
    const of = (name: "two" | "one" | "alone", what: "perSecond" | "perCoreSecond") =>
      (turns.get(name) ?? []).map((turn) => turn[what]);
    const cores = availableParallelism();
    const isSmall = cores < coresMin;
    yield resultOf({
      name: "two processes against one, as they came",
      unit: "1/s",
      ours: of("two", "perSecond"),
      peer: of("one", "perSecond"),
      // Where two processes, the clients and the upstream have no core each, that is what is measured.
      target: isSmall ? null : target,
      notes: isSmall ? [`${cores} cores are too few to tell: ${coresMin} are wanted`] : [],
    });
    yield resultOf({
      name: "two processes, a core each, against one: by processor time",
      unit: "1/s",
      ours: of("two", "perCoreSecond").map((rate) => 2 * rate),
      peer: of("one", "perCoreSecond"),
      target,
    });
    yield resultOf({
      name: "one process with Redis against one that needs none, of one core",
      unit: "1/s",
      ours: of("one", "perCoreSecond"),
      peer: of("alone", "perCoreSecond"),
      target: null,
      notes: [`as they came: ${round(median(of("alone", "perSecond")))}/s without Redis`],
    });
  } finally {
    await two.stop();
    await one.stop();
    await alone.stop();
    redis.child.kill();
  }
};

/** One of its own, that keeps nothing. */
async function startRedis(): Promise<{ child: ChildProcess; port: number }> {
  const port = 20_000 + Math.floor(Math.random() * 20_000);
  const child = spawn(
    "redis-server",
    ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  for await (const [chunk] of onData(child)) {
    if (String(chunk).includes("Ready to accept connections")) break;
  }
  child.stdout?.resume();
  return { child, port };
}

async function* onData(child: ChildProcess) {
  while (child.exitCode === null && child.stdout) yield once(child.stdout, "data");
  throw new Error("Redis does not start");
}
