/**
 * What the prefix cache saves: until the first token of a prompt whose beginning another one had, against a
 * prompt of the same length that nobody sent before. `npm run bench -- prefix-cache [MODEL]`, where MODEL is a
 * folder or a GGUF file; the demo model when absent.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Engine } from "../../adapter-server/engine/engine.ts";
import { createAdapterServer } from "../../adapter-server/server.ts";
import { type Measured, median, printResults } from "./report.ts";

const SHARED_TOKENS = 512;
const OWN_TOKENS = 16;
const ROUNDS = 15;

export async function run([model = demoModel]: readonly string[]): Promise<void> {
  const dataDir = await mkdtemp(join(tmpdir(), "switchyard-bench-"));
  const server = await createAdapterServer({
    model: { id: "bench", folder: model },
    format: "int8",
    dataDir,
    version: "bench",
    onFault: (message, cause) => console.error(message, cause),
  });
  try {
    printResults([
      await measurePrefixHits(server.engine, { name: basename(model), rounds: ROUNDS }),
    ]);
  } finally {
    await server.close();
    await rm(dataDir, { recursive: true, force: true });
  }
}

/** @param options `digest` of an adapter that the engine knows; the base without */
export async function measurePrefixHits(
  engine: Engine,
  { name, rounds, digest }: { name: string; rounds: number; digest?: string },
): Promise<Measured> {
  const cold: number[] = [];
  const warm: number[] = [];
  for (let round = 0; round < rounds + 1; round++) {
    const shared = tokensOf(SHARED_TOKENS, round);
    const [first, second] = [0, 1].map((own) => [...shared, ...tokensOf(OWN_TOKENS, 7 + own)]);
    const colds = await firstTokenMs(engine, first ?? [], digest);
    const warms = await firstTokenMs(engine, second ?? [], digest);
    // The first round warms up what is not the cache.
    if (round === 0) continue;
    cold.push(colds);
    warm.push(warms);
  }
  return {
    bench: "prefix-cache",
    case: `${name}: first token, ${SHARED_TOKENS} of ${SHARED_TOKENS + OWN_TOKENS} cached`,
    unit: "ms",
    ours: median(warm),
    peer: median(cold),
    ratio: median(cold.map((value, round) => value / (warm[round] ?? Number.NaN))),
    target: 5,
  };
}

async function firstTokenMs(
  engine: Engine,
  prompt: readonly number[],
  adapter: string | undefined,
): Promise<number> {
  const startedAt = performance.now();
  const batches = engine.generate({
    prompt,
    maxTokens: 1,
    sampling: { temperature: 0, topP: 1, topK: 0, repetitionPenalty: 1, seed: 0, stream: 0 },
    stopIds: [],
    adapter,
    tenant: "bench",
  });
  for await (const _batch of batches);
  return performance.now() - startedAt;
}

function tokensOf(length: number, seed: number): number[] {
  return Array.from({ length }, (_, position) => 100 + ((seed * 7919 + position * 131) % 3900));
}

const demoModel = fileURLToPath(new URL("../../deploy/demo-model/base", import.meta.url));
