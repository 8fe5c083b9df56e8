/** Two models whose adapters have recorded scores: the demo model, and SmolLM2 where its files are at hand. */
import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type DemoRunner, demoFolder, openDemoRunner, readAdapter } from "./demo-model.ts";
import { isSameJson, isSameText, type ScoredTask } from "./task-scores.ts";

export type ScoredModel = {
  name: string;
  /** What is imported. */
  path: string;
  tasks: (ScoredTask & { adapterFolder: string; /** Of float32, 0 to 1. */ reference: number })[];
};

export function demoScored(): ScoredModel {
  const { scores } = JSON.parse(readFileSync(join(demoFolder, "scores.json"), "utf8"));
  // The longest answers that the reference run allowed.
  const lengths = { "banking-intent": 24, "restaurant-slots": 64, "support-triage": 48 };
  const exact = Object.entries(lengths).map(([name, tokensMax], index) => ({
    ...taskOf(demoFolder, name, { slot: index + 1, tokensMax, isRight: isSameText }),
    reference: scores[name][name].exact_match as number,
  }));
  const style = {
    ...taskOf(demoFolder, "tone-formal", { slot: 4, tokensMax: 110, isRight: hasFormalTone }),
    reference: scores["tone-formal"]["tone-formal"].style_match as number,
  };
  return { name: "demo model", path: join(demoFolder, "base"), tasks: [...exact, style] };
}

/** Where `fetch` of the fixture puts its model. */
const smolLm2Path = join(
  process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"),
  "switchyard-fixtures/SmolLM2-135M-Instruct.Q4_1.gguf",
);
export const smolLm2Fixtures = fileURLToPath(
  new URL("../../../shared/fixtures/smollm2", import.meta.url),
);

/** @returns undefined where the fixtures or the file are not at hand */
export function smolLm2Scored(path = smolLm2Path): ScoredModel | undefined {
  if (!existsSync(path) || !existsSync(smolLm2Fixtures)) return undefined;
  const { scores }: { scores: { task: string; who: string; exact: number }[] } = JSON.parse(
    readFileSync(join(smolLm2Fixtures, "scores.json"), "utf8"),
  );
  const tasks = ["banking-intent", "restaurant-slots"].map((name, index) => {
    const recorded = scores.find(({ task, who }) => task === name && who === "adapter, float32");
    if (!recorded) throw new Error(`no recorded score of ${name}`);
    const task = { slot: index + 1, tokensMax: 80, isRight: isSameJson };
    return { ...taskOf(smolLm2Fixtures, name, task), reference: recorded.exact };
  });
  return { name: "SmolLM2-135M", path, tasks };
}

/** Each task's adapter in its slot. */
export async function openScored(
  { path, tasks }: ScoredModel,
  format: Parameters<typeof openDemoRunner>[0],
  cacheDir: string,
): Promise<DemoRunner> {
  const demo = await openDemoRunner(format, cacheDir, { folder: path });
  for (const { adapterFolder, slot } of tasks) {
    demo.runner.loadSlot(slot, await readAdapter(adapterFolder, demo.model.shape));
  }
  return demo;
}

function taskOf(folder: string, name: string, rest: Omit<ScoredTask, "name" | "rowsPath">) {
  const rowsPath = join(folder, "datasets", name, "test.jsonl");
  return { name, rowsPath, adapterFolder: join(folder, "adapters", name), ...rest };
}

function hasFormalTone(answer: string): boolean {
  return answer.startsWith("Dear customer,") && answer.trimEnd().endsWith("Kind regards, Support");
}
