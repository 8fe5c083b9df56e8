/**
 * What many adapters cost: eight sequences that each decode with an adapter of their own, against eight on the
 * plain base, and against the same work one sequence after the other. The real engine and the demo model; the
 * adapters are random, of rank 16 on every module, so that all eight differ.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Engine } from "../../adapter-server/engine/engine.ts";
import type { PackedAdapter } from "../../adapter-server/engine/types.ts";
import { toSharedMemory } from "../../adapter-server/lora/shared-weights.ts";
import { createAdapterServer } from "../../adapter-server/server.ts";
import type { BaseShape } from "../../sdk/protocol/catalog.ts";
import { type Measured, median, printResults } from "./report.ts";

const SEQUENCES = 8;
const PROMPT_TOKENS = 64;
const NEW_TOKENS = 96;
const RANK = 16;
const ROUNDS = 9;

export async function run(): Promise<void> {
  const dataDir = await mkdtemp(join(tmpdir(), "switchyard-bench-"));
  const server = await createAdapterServer({
    model: {
      id: "support-tiny",
      folder: fileURLToPath(new URL("../../deploy/demo-model/base", import.meta.url)),
    },
    format: "int8",
    // Every round asks the same again, and is to compute it again.
    prefixCache: false,
    dataDir,
    version: "bench",
    onFault: (message, cause) => console.error(message, cause),
  });
  try {
    const adapters = Array.from({ length: SEQUENCES }, (_, index) =>
      randomAdapter(server.model.shape, index + 1),
    );
    for (const adapter of adapters) server.engine.loadAdapter(adapter);
    printResults(
      await measure(
        server.engine,
        adapters.map(({ digest }) => digest),
      ),
    );
  } finally {
    await server.close();
    await rm(dataDir, { recursive: true, force: true });
  }
}

async function measure(engine: Engine, digests: readonly string[]): Promise<Measured[]> {
  const lanes = {
    base: () =>
      together(
        engine,
        digests.map(() => undefined),
      ),
    adapters: () => together(engine, digests),
    oneByOne: async () => {
      for (const digest of digests) await together(engine, [digest]);
    },
  };
  const names = Object.keys(lanes) as (keyof typeof lanes)[];
  const perSecond: Record<keyof typeof lanes, number[]> = { base: [], adapters: [], oneByOne: [] };
  for (const name of names) await lanes[name]();
  for (let round = 0; round < ROUNDS; round++) {
    process.stderr.write(`\rround ${round + 1} of ${ROUNDS}`);
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      const startedAt = performance.now();
      await lanes[name]();
      perSecond[name].push((SEQUENCES * NEW_TOKENS * 1000) / (performance.now() - startedAt));
    }
  }
  process.stderr.write("\n");

  const compare = (name: string, peer: "base" | "oneByOne", target: number): Measured => ({
    bench: "engine",
    case: name,
    unit: "tokens/s",
    ours: median(perSecond.adapters),
    peer: median(perSecond[peer]),
    ratio: median(
      perSecond.adapters.map((value, round) => value / (perSecond[peer][round] ?? Number.NaN)),
    ),
    target,
  });
  return [
    compare("8 sequences on 8 adapters, against 8 on the base", "base", 0.5),
    compare("8 sequences on 8 adapters, against one after the other", "oneByOne", 1.5),
  ];
}

/** Decodes a full answer for each adapter at the same time; nothing ends early. */
async function together(engine: Engine, adapters: readonly (string | undefined)[]): Promise<void> {
  await Promise.all(
    adapters.map(async (adapter, sequence) => {
      const batches = engine.generate({
        prompt: Array.from(
          { length: PROMPT_TOKENS },
          (_, position) => 16 + ((sequence * 131 + position * 17) % 4000),
        ),
        maxTokens: NEW_TOKENS,
        sampling: {
          temperature: 0,
          topP: 1,
          topK: 0,
          repetitionPenalty: 1,
          seed: 0,
          stream: sequence,
        },
        stopIds: [],
        adapter,
        tenant: "bench",
      });
      for await (const _batch of batches);
    }),
  );
}

/** Small weights from a fixed seed: the work is that of a trained adapter, the answers are of no interest. */
function randomAdapter(shape: BaseShape, seed: number): PackedAdapter {
  let state = seed * 2_654_435_761;
  const values = (length: number) =>
    Float32Array.from({ length }, () => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return (state / 2 ** 32 - 0.5) * 0.02;
    });
  const pairs = () =>
    Object.fromEntries(
      Object.entries(shape.modules).map(([module, size]) => [
        module,
        { a: values(RANK * size.in), b: values(size.out * RANK), rank: RANK },
      ]),
    );
  return toSharedMemory({
    digest: seed.toString(16).padStart(64, "0"),
    rank: RANK,
    layers: Array.from({ length: shape.layers }, pairs),
  });
}
