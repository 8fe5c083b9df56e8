/** Runs the lanes of a benchmark one after the other, prints what each finds, and says where the machine was busy. */
import { rmSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { printHead, printResult, type Result } from "./engine/result.ts";
import { watchMachine } from "./quiet.ts";
import { describeMachine, printJson } from "./report.ts";

/** Measures one promise; results come as they are there. */
export type Lane<Setting> = (setting: Setting) => AsyncGenerator<Result, void, void>;

export type LaneRun<Name extends string, Setting> = {
  bench: string;
  names: readonly Name[];
  load(name: Name): Promise<Lane<Setting>>;
  /** Is given a temporary folder; the text is printed above the table. */
  prepare(folder: string): Promise<{ setting: Setting; about: string }>;
};

/** A lane that fails is said to, and the others run all the same. */
export async function runLanes<Name extends string, Setting>({
  bench,
  names,
  load,
  prepare,
}: LaneRun<Name, Setting>): Promise<void> {
  const startedAt = performance.now();
  const folder = await mkdtemp(join(tmpdir(), "switchyard-bench-"));
  // It holds gigabytes, which a run that is broken off must not leave behind.
  process.once("SIGINT", () => {
    rmSync(folder, { recursive: true, force: true });
    process.exit(130);
  });
  try {
    const { setting, about } = await prepare(folder);
    console.log(about);
    printHead();
    const results: Result[] = [];
    for (const name of names) {
      const watch = watchMachine();
      try {
        const lane = await load(name);
        for await (const result of lane(setting)) {
          results.push({ ...result, bench });
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
