/** What a server holds that decodes with all its adapter slots taken, against its weights and configured pools. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { knowsProcessMemory } from "../../process-memory.ts";
import type { MemoryReport } from "../programs/measure-memory.ts";
import { boundedResult } from "../result.ts";
import type { Lane } from "./table.ts";

const overheadMax = 350e6;
/** Small enough to be filled in a while: memory that was never written is not resident. */
const kvCacheTokens = 4096;

export const memory: Lane = async function* (setting) {
  if (!knowsProcessMemory) {
    setting.tell("memory is read from Linux's /proc; this lane is left out");
    return;
  }
  for (const model of setting.models) {
    // Imported here, so that the process that is measured has nothing of it in its memory.
    const ours = await setting.openOurs(model);
    await ours.close();
    setting.tell(`${model.name}, memory`);
    const options = JSON.stringify(setting.ourOptions(model, { kvCacheTokens }));
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ["--expose-gc", "--import", "tsx", program, options],
      { maxBuffer: 1 << 20 },
    );
    const report = JSON.parse(stdout) as MemoryReport;
    const { weightBytes, keyValueBytes, slotBytes, hostAdapterBytes } = report;
    const needed = weightBytes + keyValueBytes + slotBytes + hostAdapterBytes;
    yield boundedResult({
      name: `${model.name}: memory of a server at work (PSS)`,
      unit: "MB",
      ours: report.pssBytes / 1e6,
      bound: (needed + overheadMax) / 1e6,
      limit: needed / 1e6,
      notes: [
        `PSS counts a page that several processes map by its share; RSS is ${megabytes(report.rssBytes)}. The bound is weights ${megabytes(weightBytes)}, ` +
          `${kvCacheTokens} tokens of keys and values ${megabytes(keyValueBytes)} (all written),`,
        `adapter slots ${megabytes(slotBytes)}, the same adapters in host memory ${megabytes(hostAdapterBytes)}, and ${megabytes(overheadMax)}; ` +
          `what is over weights and pools is ${megabytes(report.pssBytes - needed)}`,
      ],
    });
  }
};

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`;
}

const program = fileURLToPath(new URL("../programs/measure-memory.ts", import.meta.url));
