/**
 * `npm run bench -- gateway`: what the gateway costs, how it bears many keys, processes and requests, and how fast it lets go.
 * Each side is a process of its own; sides that are compared take turns; missed targets are printed as missed.
 */
import { runLanes } from "../run-lanes.ts";
import { loadLane } from "./lanes/table.ts";
import { readOptions, usage } from "./options.ts";
import { prepare, type Setting } from "./setting.ts";

export async function run(args: readonly string[]): Promise<void> {
  const options = readOptions(args);
  if (!options) {
    console.error(usage);
    process.exitCode = 2;
    return;
  }
  let setting: Setting | undefined;
  try {
    await runLanes({
      bench: "gateway",
      names: options.lanes,
      load: loadLane,
      prepare: async (folder) => {
        setting = await prepare(options, folder);
        const about = "upstream, clients, registry with ledger, and gateway: a process each";
        return { setting, about };
      },
    });
  } finally {
    await setting?.close();
  }
}
