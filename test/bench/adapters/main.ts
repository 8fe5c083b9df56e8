/**
 * `npm run bench -- adapters`: what serving many adapters promises, each figure beside the same without them, a
 * bound, or merged models in llama.cpp. Sides take turns; medians and spread are printed, missed targets as missed.
 */
import { runLanes } from "../run-lanes.ts";
import { loadLane } from "./lanes/table.ts";
import { readOptions, usage } from "./options.ts";
import { prepare } from "./setting.ts";

export async function run(args: readonly string[]): Promise<void> {
  const options = readOptions(args);
  if (!options) {
    console.error(usage);
    process.exitCode = 2;
    return;
  }
  await runLanes({
    bench: "adapters",
    names: options.lanes,
    load: loadLane,
    prepare: async (folder) => {
      const setting = await prepare(options, folder);
      const { name, path } = setting.model;
      const about = `${name} (${path}) as ${options.format}, ${options.threads} threads; adapters of rank 16 on every module, with random weights`;
      return { setting, about };
    },
  });
}
