/**
 * `npm run bench -- engine`: what the engine promises, each figure beside llama.cpp's or a bound, and beside
 * what the machine allows. Sides take turns; medians and spread are printed, missed targets as missed.
 */
import { runLanes } from "../run-lanes.ts";
import { loadLane } from "./lanes/table.ts";
import { describeLimits } from "./machine-limits.ts";
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
    bench: "engine",
    names: options.lanes,
    load: loadLane,
    prepare: async (folder) => {
      const setting = await prepare(options, folder);
      const models = setting.models.map(({ name, path }) => `${name} (${path})`).join(", ");
      const about = `ours as ${options.format}, ${options.threads} threads on each side; ${models}\n${describeLimits(setting.machine)}`;
      return { setting, about };
    },
  });
}
