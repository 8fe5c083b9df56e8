/** `switchyard models import` of SmolLM2-135M, in a process of its own: how long, and how much memory at its peak. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { median } from "../../report.ts";
import { boundedResult } from "../result.ts";
import type { Setting } from "../setting.ts";
import type { Lane } from "./table.ts";

const secondsMax = 20;
/** Times the checkpoint. */
const peakMax = 2;

export const importing: Lane = async function* (setting) {
  const [model] = setting.models.filter(({ size }) => size === "135M");
  if (!model) return;
  const args = ["import", model.path, "--format", setting.format];
  const runs = [];
  for (let round = 0; round < (setting.quick ? 1 : 3); round++) {
    setting.tell(`${model.name}, import, round ${round + 1}`);
    runs.push(await runModels(setting, args));
  }
  const idle = await runModels(setting, ["list"]);
  const checkpoint = (await stat(model.path)).size;
  const seconds = runs.map((run) => run.seconds);
  const written = median(runs.map((run) => run.bytesWritten));
  yield boundedResult({
    name: `${model.name}: import as ${setting.format}`,
    unit: "s",
    ours: median(seconds),
    bound: secondsMax,
    limit: (checkpoint + written) / setting.machine.bytesPerSecond,
    notes: [
      `${seconds.map((each) => each.toFixed(1)).join(", ")} s from the command's start to its end; the limit is the checkpoint's bytes and the result's through memory`,
    ],
  });
  yield boundedResult({
    name: `${model.name}: peak memory of that import`,
    unit: "MB",
    ours: Math.max(...runs.map((run) => run.peakBytes)) / 1e6,
    bound: (peakMax * checkpoint) / 1e6,
    limit: idle.peakBytes / 1e6,
    notes: [
      `the most resident (VmHWM); the checkpoint is ${megabytes(checkpoint)}, and the limit is what the command takes that imports nothing ('models list')`,
    ],
  });
};

type Run = { seconds: number; peakBytes: number; bytesWritten: number };

/** `switchyard models …` from the sources, with an empty data folder. @throws Error with what it said when it failed */
async function runModels(setting: Setting, args: readonly string[]): Promise<Run> {
  const dataDir = await mkdtemp(join(setting.folder, "import-"));
  const startedAt = performance.now();
  const child = spawn(process.execPath, ["--import", reporter, command, "models", ...args], {
    env: { ...process.env, SWITCHYARD_DATA_DIR: dataDir },
    stdio: ["ignore", "ignore", "pipe", "pipe"],
  });
  const said = text(child.stderr as Readable);
  const reported = text(child.stdio[3] as Readable);
  const [code] = await once(child, "exit");
  const seconds = (performance.now() - startedAt) / 1000;
  if (code !== 0) throw new Error(`models ${args.join(" ")} ended with ${code}: ${await said}`);
  const peak = /^VmHWM:\s+(\d+) kB/m.exec(await reported)?.[1];
  const bytesWritten = await bytesIn(dataDir);
  await rm(dataDir, { recursive: true, force: true });
  return { seconds, peakBytes: 1024 * Number(peak), bytesWritten };
}

async function bytesIn(folder: string): Promise<number> {
  const names = await readdir(folder, { recursive: true });
  const sizes = await Promise.all(names.map((name) => stat(join(folder, name))));
  return sizes.reduce((sum, each) => sum + (each.isFile() ? each.size : 0), 0);
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`;
}

const reporter = new URL("../programs/report-memory.js", import.meta.url).href;
const command = fileURLToPath(new URL("../../../../deploy/cli/bin.js", import.meta.url));
