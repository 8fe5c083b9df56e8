/** What the engine benchmark's command line may say. */
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { defaultThreads, readConfig } from "../../../adapter-server/config.ts";
import { type SingleFormat, singleFormats } from "../../../adapter-server/models/graph-files.ts";
import { type ModelFormat, modelFormats } from "../../../adapter-server/models/import-model.ts";
import { type LaneName, laneNames } from "./lanes/table.ts";

export type Options = {
  lanes: readonly LaneName[];
  /** SmolLM2-135M's file; absent where a random model of its shape has to do. */
  smallModel: string | undefined;
  sizes: readonly ModelSize[];
  format: ModelFormat;
  singleStream: SingleFormat | undefined;
  threads: number;
  /** Few rounds and few cases: to see that all runs, not to measure. */
  quick: boolean;
  rounds: number | undefined;
};

const modelSizes = ["135M", "1.1B"] as const;
export type ModelSize = (typeof modelSizes)[number];

export const usage = `usage: npm run bench -- engine [LANE ...] [--model FILE.gguf] [--sizes ${modelSizes.join(",")}] [--format FORMAT]
       [--single-stream FORMAT] [--threads N] [--rounds N] [--quick]

Our engine against llama.cpp and against the machine. Without a lane it runs all of them:
${laneNames.map(([name, what]) => `  ${name.padEnd(12)} ${what}`).join("\n")}

  --model    SmolLM2-135M-Instruct as GGUF; else $SMOLLM2_GGUF, else where its fixture lies,
             else a model of its shape with random weights
  --sizes    which models, of those that a lane has
  --format   how ours are imported: ${modelFormats.join(", ")}; the server's own choice without it
  --single-stream  ${singleFormats.join(" or ")} beside it for steps of one sequence, where that is quicker here
  --quick    one round of a few cases: shows that everything runs
`;

/** @returns undefined when help was asked for, or what is asked is not known */
export function readOptions(args: readonly string[]): Options | undefined {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        model: { type: "string" },
        sizes: { type: "string", default: modelSizes.join(",") },
        format: { type: "string" },
        "single-stream": { type: "string" },
        threads: { type: "string" },
        rounds: { type: "string" },
        quick: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    });
    if (values.help) return undefined;
    const single = values["single-stream"];
    const names = laneNames.map(([name]) => name);
    return {
      lanes: positionals.length === 0 ? names : positionals.map((text) => oneOf(names, text)),
      smallModel: findSmallModel(values.model),
      sizes: values.sizes.split(",").map((text) => oneOf(modelSizes, text)),
      format: values.format === undefined ? servedFormat() : oneOf(modelFormats, values.format),
      singleStream: single === undefined ? undefined : oneOf(singleFormats, single),
      threads: values.threads === undefined ? defaultThreads() : count(values.threads),
      rounds: values.rounds === undefined ? undefined : count(values.rounds),
      quick: values.quick,
    };
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}\n`);
    return undefined;
  }
}

/** What a server takes that is told nothing. */
export function servedFormat(): ModelFormat {
  return readConfig({ MODEL: "unused" }).format;
}

/**
 * SmolLM2-135M's file: the one that is named, else that of the environment, else where its fixture lies.
 * @throws Error when a file was named and is not there
 */
export function findSmallModel(named: string | undefined): string | undefined {
  const path = named ?? process.env.SMOLLM2_GGUF;
  if (path) {
    if (!existsSync(path)) throw new Error(`there is no file ${path}`);
    return resolve(path);
  }
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  const fixture = join(cache, "switchyard-fixtures/SmolLM2-135M-Instruct.Q4_1.gguf");
  return existsSync(fixture) ? fixture : undefined;
}

export function oneOf<T extends string>(known: readonly T[], text: string): T {
  const found = known.find((each) => each === text);
  if (found === undefined) throw new Error(`'${text}' is none of: ${known.join(", ")}`);
  return found;
}

export function count(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new Error(`'${text}' is no number of things`);
  return value;
}
