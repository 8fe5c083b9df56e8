/**
 * Our engine against llama.cpp on one GGUF file: decoding with 1 to 32 sequences, and the time to a first token.
 * The peer is node-llama-cpp with its own build for this processor, batching on. It is no dependency:
 * `npm install --no-save node-llama-cpp@3.22.1` brings it.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { defaultThreads } from "../../adapter-server/config.ts";
import { type ModelFormat, modelFormats } from "../../adapter-server/models/import-model.ts";
import { createAdapterServer } from "../../adapter-server/server.ts";
import { type Measured, median, printResults } from "./report.ts";

const DECODE_PROMPT_TOKENS = 16;
const NEW_TOKENS = 48;
const ROUNDS = 5;
/** What our design promises: the more sequences share a step, the more of an advantage. */
const decodeTargets = new Map([
  [1, 1],
  [4, 1.5],
  [8, 2],
  [16, 2.5],
  [32, 3],
]);
const prefillTargets = new Map([
  [256, 1.3],
  [512, 1.3],
]);

/** Something that decodes greedily. Every prompt differs, so that no cache helps. */
type Lane = {
  name: string;
  /** Continues the prompts together, `newTokens` each, whatever they are. */
  complete(prompts: readonly number[][], newTokens: number): Promise<void>;
  close(): Promise<void>;
};

export async function run([path, format = "int8"]: readonly string[]): Promise<void> {
  if (path === undefined || !modelFormats.some((known) => known === format)) {
    console.error(`usage: npm run bench -- llama MODEL.gguf [${modelFormats.join(" | ")}]`);
    process.exitCode = 2;
    return;
  }
  const peer = await openPeer(path);
  if (!peer) {
    console.error("no peer: npm install --no-save node-llama-cpp@3.22.1");
    process.exitCode = 1;
    return;
  }
  const ours = await openOurs(path, format as ModelFormat);
  console.log(`ours: ${ours.name}; peer: ${peer.name}; ${defaultThreads()} threads each`);
  try {
    const results: Measured[] = [];
    for (const [sequences, target] of decodeTargets) {
      const work = { sequences, promptTokens: DECODE_PROMPT_TOKENS, newTokens: NEW_TOKENS };
      const name = `decode, ${sequences} sequence${sequences > 1 ? "s" : ""}`;
      results.push(await compare({ ours, peer }, work, { name, target }));
    }
    for (const [promptTokens, target] of prefillTargets) {
      const work = { sequences: 1, promptTokens, newTokens: 1 };
      results.push(
        await compare({ ours, peer }, work, { name: `prefill, ${promptTokens}`, target }),
      );
    }
    printResults(results);
  } finally {
    await ours.close();
    await peer.close();
  }
}

type Work = { sequences: number; promptTokens: number; newTokens: number };

/** Tokens a second, those of the prompt where it is the work, else the new ones. */
async function compare(
  lanes: { ours: Lane; peer: Lane },
  { sequences, promptTokens, newTokens }: Work,
  { name, target }: { name: string; target: number },
): Promise<Measured> {
  const perSecond = { ours: [] as number[], peer: [] as number[] };
  const tokens = sequences * (newTokens === 1 ? promptTokens : newTokens);
  let seed = 0;
  for (let round = -1; round < ROUNDS; round++) {
    process.stderr.write(`\r${name}: round ${round + 1} of ${ROUNDS}   `);
    for (const lane of round % 2 === 0
      ? (["ours", "peer"] as const)
      : (["peer", "ours"] as const)) {
      const prompts = Array.from({ length: sequences }, () => promptOf(promptTokens, ++seed));
      const startedAt = performance.now();
      await lanes[lane].complete(prompts, newTokens);
      // The first round warms up.
      if (round >= 0) perSecond[lane].push((tokens * 1000) / (performance.now() - startedAt));
    }
  }
  process.stderr.write("\n");
  const ratios = perSecond.ours.map(
    (value, round) => value / (perSecond.peer[round] ?? Number.NaN),
  );
  return {
    bench: "llama",
    case: name,
    unit: "tokens/s",
    ours: median(perSecond.ours),
    peer: median(perSecond.peer),
    ratio: median(ratios),
    target,
  };
}

function promptOf(length: number, seed: number): number[] {
  return Array.from({ length }, (_, position) => 100 + ((seed * 7919 + position * 131) % 4000));
}

async function openOurs(path: string, format: ModelFormat): Promise<Lane> {
  const dataDir = await mkdtemp(join(tmpdir(), "switchyard-bench-"));
  const server = await createAdapterServer({
    model: { id: "bench", folder: path },
    format,
    dataDir,
    version: "bench",
    onFault: (message, cause) => console.error(message, cause),
  });
  return {
    name: `${basename(path)} as ${format}`,
    async complete(prompts, newTokens) {
      await Promise.all(
        prompts.map(async (prompt, stream) => {
          const batches = server.engine.generate({
            prompt,
            maxTokens: newTokens,
            sampling: {
              temperature: 0,
              topP: 1,
              topK: 0,
              repetitionPenalty: 1,
              seed: 0,
              stream,
            },
            stopIds: [],
            adapter: undefined,
            tenant: "bench",
          });
          for await (const _batch of batches);
        }),
      );
    },
    async close() {
      await server.close();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

async function openPeer(path: string): Promise<Lane | undefined> {
  const specifier: string = "node-llama-cpp";
  const library: LlamaLibrary | undefined = await import(specifier).catch(() => undefined);
  if (!library) return undefined;
  const threads = defaultThreads();
  const llama = await library.getLlama({ gpu: false, build: "never", maxThreads: threads });
  const model = await llama.loadModel({ modelPath: path });
  const sequencesMax = Math.max(...decodeTargets.keys());
  const context = await model.createContext({
    sequences: sequencesMax,
    contextSize: 1024,
    batchSize: 512,
    threads,
  });
  const sequences = Array.from({ length: sequencesMax }, () => context.getSequence());
  return {
    name: `${basename(path)} by node-llama-cpp`,
    async complete(prompts, newTokens) {
      await Promise.all(
        prompts.map(async (prompt, index) => {
          const sequence = sequences[index] as LlamaSequence;
          await sequence.clearHistory();
          let left = newTokens;
          const options = { temperature: 0, yieldEogToken: true };
          for await (const _token of sequence.evaluate(prompt, options)) if (--left === 0) break;
        }),
      );
    },
    close: () => model.dispose(),
  };
}

/** As much of node-llama-cpp 3.22 as is used here. */
type LlamaLibrary = {
  getLlama(options: { gpu: false; build: "never"; maxThreads: number }): Promise<{
    loadModel(options: { modelPath: string }): Promise<{
      createContext(options: {
        sequences: number;
        contextSize: number;
        batchSize: number;
        threads: number;
      }): Promise<{ getSequence(): LlamaSequence }>;
      dispose(): Promise<void>;
    }>;
  }>;
};
type LlamaSequence = {
  clearHistory(): Promise<void>;
  evaluate(
    tokens: readonly number[],
    options: { temperature: number; yieldEogToken: boolean },
  ): AsyncIterable<number>;
};
