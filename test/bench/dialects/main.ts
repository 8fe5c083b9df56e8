/**
 * `npm run bench -- dialects`: what it costs that a client and its upstream speak differently, each figure beside the
 * same stream passed as it is, or beside the upstream itself. Sides take turns; missed targets are printed as missed.
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
      bench: "dialects",
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
