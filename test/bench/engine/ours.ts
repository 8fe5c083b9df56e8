/** Our engine, as a server of this process runs it: its worker, its scheduler, greedy sampling. */
import { basename } from "node:path";
import type { ServerLimits } from "../../../adapter-server/config.ts";
import type { Sampling } from "../../../adapter-server/engine/sampler.ts";
import type { SingleFormat } from "../../../adapter-server/models/graph-files.ts";
import type { ModelFormat } from "../../../adapter-server/models/import-model.ts";
import { type AdapterServer, createAdapterServer } from "../../../adapter-server/server.ts";
import { type Contestant, type DecodeWork, promptsOf } from "./contestant.ts";
import { rateWhileAllDecode } from "./window.ts";

export type Ours = Contestant & {
  server: AdapterServer;
  /** As `decode`, each sequence with an adapter of its own. */
  decodeWith(adapters: readonly string[], work: DecodeWork): Promise<number>;
  /** Requests that all come at once, each with an adapter or none; milliseconds until the last one is answered. */
  answer(requests: readonly OurRequest[]): Promise<number>;
  close(): Promise<void>;
};

export type OurRequest = {
  prompt: readonly number[];
  newTokens: number;
  adapter?: string | undefined;
};

export type OurOptions = {
  path: string;
  format: ModelFormat;
  singleStream?: SingleFormat | undefined;
  /** Imports are kept in it from one opening to the next. */
  dataDir: string;
  threads: number;
  limits?: Partial<ServerLimits>;
};

export async function openOurs(options: OurOptions): Promise<Ours> {
  const { path, format, singleStream, dataDir, threads, limits = {} } = options;
  const server = await createAdapterServer({
    model: { id: "bench", folder: path },
    format,
    singleStream,
    dataDir,
    threads,
    // Lanes measure what computing takes; what is saved by guessing and by the prefix cache is measured by itself.
    prefixCache: false,
    limits: { speculationTokensMax: 0, ...limits },
    version: "bench",
    onFault: (message, cause) => console.error(message, cause),
  });
  const arrivals = (requests: readonly OurRequest[]) =>
    Promise.all(requests.map((request, stream) => generate(server, request, stream)));
  return {
    name: `switchyard, ${basename(path)} as ${format}`,
    server,
    async decode(work) {
      const { newTokens } = work;
      return rateWhileAllDecode(
        await arrivals(promptsOf(work).map((prompt) => ({ prompt, newTokens }))),
      );
    },
    async decodeWith(adapters, work) {
      const { newTokens } = work;
      const requests = promptsOf(work).map((prompt, index) => {
        return { prompt, newTokens, adapter: adapters[index] };
      });
      return rateWhileAllDecode(await arrivals(requests));
    },
    async prefill(prompt) {
      const startedAt = performance.now();
      await arrivals([{ prompt, newTokens: 1 }]);
      return (prompt.length * 1000) / (performance.now() - startedAt);
    },
    async answer(requests) {
      const startedAt = performance.now();
      await arrivals(requests);
      return performance.now() - startedAt;
    },
    close: () => server.close(),
  };
}

/** When each token came; nothing ends a sequence early. */
async function generate(
  { engine }: AdapterServer,
  { prompt, newTokens, adapter }: OurRequest,
  stream: number,
): Promise<number[]> {
  const batches = engine.generate({
    prompt,
    maxTokens: newTokens,
    sampling: greedy(stream),
    stopIds: [],
    adapter,
    tenant: "bench",
  });
  const arrivals: number[] = [];
  for await (const { tokens } of batches) {
    const now = performance.now();
    for (const _token of tokens) arrivals.push(now);
  }
  return arrivals;
}

/** The likeliest token each time. */
export function greedy(stream: number): Sampling {
  return { temperature: 0, topP: 1, topK: 0, repetitionPenalty: 1, seed: 0, stream };
}
