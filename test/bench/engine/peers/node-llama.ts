/**
 * node-llama-cpp with its own build for this processor, batching on. It is no dependency: it is found where
 * `npm install --no-save` puts it, or in the folder that `LLAMA_NODE_MODULES` names.
 */
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { promptsOf } from "../contestant.ts";
import { rateWhileAllDecode } from "../window.ts";
import type { Peer, PeerOptions } from "./peer.ts";

export async function openNodeLlama(options: PeerOptions): Promise<Peer | undefined> {
  const library = await load();
  if (!library) return undefined;
  const { path, threads, sequencesMax, contextTokens } = options;
  const llama = await library.getLlama({
    gpu: false,
    build: "never",
    maxThreads: threads,
    logLevel: "disabled",
  });
  const model = await llama.loadModel({ modelPath: path });
  const context = await model.createContext({
    sequences: sequencesMax,
    contextSize: contextTokens,
    batchSize: 512,
    threads,
  });
  const sequences = Array.from({ length: sequencesMax }, () => context.getSequence());
  const complete = (prompts: readonly number[][], newTokens: number) =>
    Promise.all(
      prompts.map((prompt, index) => generate(sequences[index] as Sequence, prompt, newTokens)),
    );
  const contestant = {
    name: "node-llama-cpp",
    async decode(work: Parameters<typeof promptsOf>[0]) {
      return rateWhileAllDecode(await complete(promptsOf(work), work.newTokens));
    },
    async prefill(prompt: readonly number[]) {
      const startedAt = performance.now();
      await complete([[...prompt]], 1);
      return (prompt.length * 1000) / (performance.now() - startedAt);
    },
  };
  return { contestants: [contestant], close: () => model.dispose() };
}

async function load(): Promise<Library | undefined> {
  const folder = process.env.LLAMA_NODE_MODULES;
  const specifier: string =
    folder === undefined || folder === ""
      ? "node-llama-cpp"
      : pathToFileURL(join(resolve(folder), "node-llama-cpp/dist/index.js")).href;
  return import(specifier).catch(() => undefined);
}

/** When each token came. */
async function generate(
  sequence: Sequence,
  prompt: readonly number[],
  newTokens: number,
): Promise<number[]> {
  await sequence.clearHistory();
  const arrivals: number[] = [];
  const options = { temperature: 0, yieldEogToken: true };
  for await (const _token of sequence.evaluate(prompt, options)) {
    if (arrivals.push(performance.now()) === newTokens) break;
  }
  return arrivals;
}

/** As much of node-llama-cpp 3.22 as is used here. */
type Library = {
  getLlama(options: {
    gpu: false;
    build: "never";
    maxThreads: number;
    logLevel: "disabled";
  }): Promise<{
    loadModel(options: { modelPath: string }): Promise<{
      createContext(options: {
        sequences: number;
        contextSize: number;
        batchSize: number;
        threads: number;
      }): Promise<{ getSequence(): Sequence }>;
      dispose(): Promise<void>;
    }>;
  }>;
};
type Sequence = {
  clearHistory(): Promise<void>;
  evaluate(
    tokens: readonly number[],
    options: { temperature: number; yieldEogToken: boolean },
  ): AsyncIterable<number>;
};
