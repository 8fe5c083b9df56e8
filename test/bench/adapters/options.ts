/** What the adapter benchmark's command line may say. */
import { parseArgs } from "node:util";
import { defaultThreads } from "../../../adapter-server/config.ts";
import { type ModelFormat, modelFormats } from "../../../adapter-server/models/import-model.ts";
import { count, findSmallModel, oneOf, servedFormat } from "../engine/options.ts";
import { type LaneName, laneNames } from "./lanes/table.ts";

export type Options = {
  lanes: readonly LaneName[];
  /** SmolLM2-135M's file; absent where a random model of its shape has to do. */
  model: string | undefined;
  format: ModelFormat;
  threads: number;
  /** Few rounds and short ones: to see that all runs, not to measure. */
  quick: boolean;
};

export const usage = `usage: npm run bench -- adapters [LANE ...] [--model FILE.gguf] [--format FORMAT] [--threads N] [--quick]

What serving many adapters promises. Without a lane it runs all of them, in about a quarter of an hour:
${laneNames.map(([name, what]) => `  ${name.padEnd(12)} ${what}`).join("\n")}

  --model    SmolLM2-135M-Instruct as GGUF; else $SMOLLM2_GGUF, else where its fixture lies,
             else a model of its shape with random weights
  --format   how it is imported: ${modelFormats.join(", ")}; the server's own choice without it
  --quick    short rounds of few cases: shows that everything runs
`;

/** @returns undefined when help was asked for, or what is asked is not known */
export function readOptions(args: readonly string[]): Options | undefined {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        model: { type: "string" },
        format: { type: "string" },
        threads: { type: "string" },
        quick: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    });
    if (values.help) return undefined;
    const names = laneNames.map(([name]) => name);
    return {
      lanes: positionals.length === 0 ? names : positionals.map((text) => oneOf(names, text)),
      model: findSmallModel(values.model),
      format: values.format === undefined ? servedFormat() : oneOf(modelFormats, values.format),
      threads: values.threads === undefined ? defaultThreads() : count(values.threads),
      quick: values.quick,
    };
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}\n`);
    return undefined;
  }
}
