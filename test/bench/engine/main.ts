/**
 * `npm run bench -- engine`: what the engine promises, each figure beside llama.cpp's or a bound, and beside
 * what the machine allows. Sides take turns; medians and spread are printed, missed targets as missed.
 */
import { rmSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { watchMachine } from "../quiet.ts";
import { describeMachine, printJson } from "../report.ts";
import { loadLane } from "./lanes/table.ts";
import { describeLimits } from "./machine-limits.ts";
import { readOptions, usage } from "./options.ts";
import { printHead, printResult, type Result } from "./result.ts";
import { prepare } from "./setting.ts";

export async function run(args: readonly string[]): Promise<void> {
  const options = readOptions(args);
  if (!options) {
    console.error(usage);
    process.exitCode = 2;
    return;
  }
  const startedAt = performance.now();
  const folder = await mkdtemp(join(tmpdir(), "switchyard-bench-"));
  // It holds gigabytes, which a run that is broken off must not leave behind.
  process.once("SIGINT", () => {
    rmSync(folder, { recursive: true, force: true });
    process.exit(130);
  });
  try {
    const setting = await prepare(options, folder);
    const models = setting.models.map(({ name, path }) => `${name} (${path})`).join(", ");
    console.log(`ours as ${options.format}, ${options.threads} threads on each side; ${models}`);
    console.log(describeLimits(setting.machine));
    printHead();
    const results: Result[] = [];
    for (const name of options.lanes) {
      const watch = watchMachine();
      try {
        const lane = await loadLane(name);
        for await (const result of lane(setting)) {
          results.push(result);
          printResult(result);
        }
      } catch (error) {
        // The others' figures are worth having.
        console.log(`${name}: FAILED, ${error instanceof Error ? error.message : error}`);
        process.exitCode = 1;
      }
      const { quiet, text } = watch();
      if (quiet === false) console.log(`  ${name}: the machine was ${text}`);
    }
    const minutes = ((performance.now() - startedAt) / 60_000).toFixed(1);
    const machine = describeMachine();
    console.log(`\n${machine}\n${minutes} minutes`);
    printJson(results, machine);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
