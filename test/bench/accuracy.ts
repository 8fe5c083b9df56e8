/**
 * What quantized weights cost in answers: exact match of adapters on their test rows, against what float32 scored. The
 * demo model is here; SmolLM2-135M is scored as well where its fixture is (`../shared/fixtures/smollm2/fetch`).
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import {
  demoScored,
  openScored,
  type ScoredModel,
  smolLm2Scored,
} from "../../adapter-server/__fixtures__/scored-models.ts";
import { scoreTasks } from "../../adapter-server/__fixtures__/task-scores.ts";
import { type ModelFormat, modelFormats } from "../../adapter-server/models/import-model.ts";
import {
  type QuantizationReport,
  readReport,
} from "../../adapter-server/models/quantization/report.ts";
import { type Measured, printResults } from "./report.ts";

const SHIPPED: readonly ModelFormat[] = ["auto", "int8", "int8-a16", "int8-blocks", "int4"];
/** Points that a quantized form may lose. */
const POINTS = 1;

export async function run(args: readonly string[]): Promise<void> {
  const asked = modelFormats.filter((format) => args.includes(format));
  const rows = Number(args.find((arg) => /^\d+$/.test(arg)) ?? Number.POSITIVE_INFINITY);
  const path = args.find((arg) => arg.toLowerCase().endsWith(".gguf"));
  const smolLm2 = smolLm2Scored(path);
  if (!smolLm2) console.log("SmolLM2-135M is left out: its fixture or its file is not here.");
  const formats = asked.length > 0 ? asked : SHIPPED;
  const results: Measured[] = [];
  const cacheDir = await mkdtemp(join(tmpdir(), "switchyard-bench-"));
  try {
    for (const model of smolLm2 ? [smolLm2, demoScored()] : [demoScored()]) {
      for (const format of formats) {
        results.push(...(await scoreFormat(model, format, { rows, cacheDir })));
      }
    }
  } finally {
    await rm(cacheDir, { recursive: true, force: true });
  }
  printResults(results);
}

async function scoreFormat(
  model: ScoredModel,
  format: ModelFormat,
  { rows, cacheDir }: { rows: number; cacheDir: string },
): Promise<Measured[]> {
  const opened = await openScored(model, format, cacheDir);
  const report = await readReport(dirname(opened.model.graphPath));
  if (report) console.log(`${model.name} as ${format}: ${toldOf(report)}`);
  const scores = await scoreTasks(opened, model.tasks, rows);
  await opened.runner.close();
  return model.tasks.map(({ name, reference }) => {
    const [ours, peer] = [100 * (scores[name] ?? Number.NaN), 100 * reference];
    const points = (ours - peer).toFixed(1);
    console.log(`${model.name}, ${name} as ${format}: ${ours.toFixed(1)} %, ${points} points`);
    const about = rows === Number.POSITIVE_INFINITY ? "" : `, ${rows} rows`;
    return {
      bench: "accuracy",
      case: `${model.name}, ${name} as ${format}${about}`,
      unit: "% right",
      ours,
      peer,
      ratio: ours / peer,
      // The recorded score is of all rows; some of them say little.
      target: about === "" ? Math.floor(10_000 * (1 - POINTS / peer)) / 10_000 : null,
    };
  });
}

/** Which matrices have which format, why, and how far all is from float32. */
function toldOf({ matrices, reason, cost }: QuantizationReport): string {
  const counts = new Map<string, number>();
  for (const { name, format } of matrices) {
    const kind = `${name.replace(/^layer\d+\./, "")} ${format}`;
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  const kinds = [...counts].map(([kind, count]) => `${count} × ${kind}`).join(", ");
  return `${reason}; ${kinds}; KL ${cost.klMean.toPrecision(2)}`;
}
