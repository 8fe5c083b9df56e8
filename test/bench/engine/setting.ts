/** What all lanes share: the models, the two sides, the machine's limits, a temporary folder. */
import { join } from "node:path";
import { type ServerLimits, serverLimits } from "../../../adapter-server/config.ts";
import { costOf, type ModelCost } from "./least-work.ts";
import { type MachineLimits, measureMachine } from "./machine-limits.ts";
import { shape1B, shape135M, writeRandomModel } from "./models/random-model.ts";
import type { ModelSize, Options } from "./options.ts";
import { type OurOptions, type Ours, openOurs } from "./ours.ts";
import { openPeers, type Peer } from "./peers/peer.ts";

export type BenchModel = {
  size: ModelSize;
  /** As it stands in the table. */
  name: string;
  path: string;
  /** Tokens that a sequence decodes: fewer where a step takes long. */
  newTokens: number;
  /** Whether it says anything sensible. */
  isTrained: boolean;
};

export type Setting = Pick<Options, "format" | "threads" | "quick"> & {
  models: readonly BenchModel[];
  folder: string;
  machine: MachineLimits;
  /** Rounds of a case on a model. */
  rounds(model: BenchModel): number;
  /** Where ours is, and what its imports keep. */
  ourOptions(model: BenchModel, limits?: Partial<ServerLimits>): OurOptions;
  openOurs(model: BenchModel, limits?: Partial<ServerLimits>): Promise<Ours>;
  openPeers(
    model: BenchModel,
    needs: { sequencesMax: number; contextTokens: number },
  ): Promise<Peer[]>;
  /** What a step of the model costs at least, as ours has imported it. */
  costOf(ours: Ours): Promise<ModelCost>;
  /** Tells who waits what goes on. */
  tell(text: string): void;
};

export const promptTokens = 64;

/** @param folder a temporary one; the random models are written into it */
export async function prepare(options: Options, folder: string): Promise<Setting> {
  const { format, singleStream, threads, quick } = options;
  const tell = (text: string) => process.stderr.write(`  ${text}\n`);
  tell("measuring the machine");
  const machine = await measureMachine(join(folder, "probes"), threads);
  const models: BenchModel[] = [];
  for (const size of options.sizes) {
    models.push(size === "135M" ? await smallModel(options, folder) : await largeModel(folder));
  }
  const ourOptions: Setting["ourOptions"] = (model, limits = {}) => ({
    path: model.path,
    format,
    singleStream,
    dataDir: join(folder, "data"),
    threads,
    limits,
  });
  return {
    format,
    threads,
    quick,
    models,
    folder,
    machine,
    rounds: ({ size }) => options.rounds ?? (quick ? 1 : size === "135M" ? 5 : 3),
    ourOptions,
    openOurs: (model, limits) => {
      tell(`opening ${model.name}`);
      return openOurs(ourOptions(model, limits));
    },
    openPeers: (model, needs) => openPeers({ path: model.path, threads, ...needs }),
    costOf: ({ server }) => costOf(server.model, serverLimits.parse({}).kvCacheType),
    tell,
  };
}

async function smallModel({ smallModel: path }: Options, folder: string): Promise<BenchModel> {
  const size = "135M";
  const newTokens = 32;
  if (path !== undefined) {
    return { size, name: "SmolLM2-135M", path, newTokens, isTrained: true };
  }
  const random = join(folder, "random-135M.Q4_0.gguf");
  await writeRandomModel(random, shape135M);
  return { size, name: "135M shape", path: random, newTokens, isTrained: false };
}

async function largeModel(folder: string): Promise<BenchModel> {
  const path = join(folder, "random-1.1B.Q4_0.gguf");
  await writeRandomModel(path, shape1B);
  return { size: "1.1B", name: "1.1B shape", path, newTokens: 16, isTrained: false };
}
