/** What all lanes share: the model, servers of it, adapters in memory and on disk, a temporary folder. */
import { join } from "node:path";
import type { ServerLimits } from "../../../adapter-server/config.ts";
import type { PackedAdapter } from "../../../adapter-server/engine/types.ts";
import { folderSource } from "../../../adapter-server/lora/adapter-source.ts";
import { type AdapterServer, createAdapterServer } from "../../../adapter-server/server.ts";
import type { BaseShape } from "../../../sdk/protocol/catalog.ts";
import { adapterRank, randomAdapter } from "../engine/models/random-adapter.ts";
import { shape135M, writeRandomModel } from "../engine/models/random-model.ts";
import type { Options } from "./options.ts";

export type Setting = Pick<Options, "format" | "threads" | "quick"> & {
  model: { name: string; path: string };
  folder: string;
  /** A full run's number, or a little one that shows that all runs. */
  full(number: number, quick: number): number;
  open(options?: OpenOptions): Promise<AdapterServer>;
  /** Tells who waits what goes on. */
  tell(text: string): void;
};

export type OpenOptions = {
  limits?: Partial<ServerLimits>;
  prefixCache?: boolean;
  /** Adapters lie in it, one folder each: to be asked for by digest, or loaded by name. */
  adapterFolder?: string;
};

export const operatorKey = "operator-key-of-the-bench";
/** What clients call the base. */
export const baseId = "bench";

/** @param folder a temporary one */
export async function prepare(options: Options, folder: string): Promise<Setting> {
  const { format, threads, quick } = options;
  const model = await findModel(options, folder);
  const tell = (text: string) => process.stderr.write(`  ${text}\n`);
  return {
    format,
    threads,
    quick,
    model,
    folder,
    full: (number, little) => (quick ? little : number),
    tell,
    open: async ({ limits = {}, prefixCache = false, adapterFolder } = {}) =>
      createAdapterServer({
        model: { id: baseId, folder: model.path },
        format,
        // Imports are kept in it from one lane to the next.
        dataDir: join(folder, "data"),
        threads,
        // Lanes measure what computing takes; what is saved by guessing and by the prefix cache is measured by itself.
        prefixCache,
        limits: { speculationTokensMax: 0, ...limits },
        operatorKey,
        ...(adapterFolder !== undefined && {
          adapterFolders: [adapterFolder],
          source: await folderSource([adapterFolder], adapterFileBytesMax),
        }),
        version: "bench",
        onFault: (message, cause) => console.error(message, cause),
      }),
  };
}

async function findModel({ model }: Options, folder: string): Promise<Setting["model"]> {
  if (model !== undefined) return { name: "SmolLM2-135M", path: model };
  const path = join(folder, "random-135M.Q4_0.gguf");
  await writeRandomModel(path, shape135M);
  return { name: "135M shape", path };
}

/**
 * So many adapters, each with a digest of its own. Beyond a few, their numbers are those of others: enough of
 * them not to stay in the processor's caches, and no more memory than that.
 */
export function adaptersInMemory(shape: BaseShape, count: number): PackedAdapter[] {
  const made = Array.from({ length: Math.min(count, distinctWeights) }, (_, index) =>
    randomAdapter(shape, index + 1),
  );
  return Array.from({ length: count }, (_, index) => {
    const digest = (index + 1).toString(16).padStart(64, "0");
    return { ...(made[index % made.length] as PackedAdapter), digest };
  });
}

/** Bytes of one in host memory, and in a slot. */
export function adapterBytes({ layers, modules }: BaseShape): number {
  const numbers = Object.values(modules).reduce((sum, size) => sum + size.in + size.out, 0);
  return layers * numbers * adapterRank * Float32Array.BYTES_PER_ELEMENT;
}

const distinctWeights = 16;
export const adapterFileBytesMax = 1 << 30;
