/** What sharing a step brings: tokens a second of 1 to 64 sequences, drawn as a plot. */
import { drawBars } from "../../plot.ts";
import { median } from "../../report.ts";
import { decodeSeconds } from "../least-work.ts";
import { type Result, resultOf } from "../result.ts";
import { takeTurns } from "../rounds.ts";
import type { Lane } from "./table.ts";

const batches = [1, 2, 4, 8, 16, 32, 64];
/** Short, since 64 prompts are read in every round. */
const promptTokens = 16;
const compared = 32;
const target = 8;

export const curve: Lane = async function* (setting) {
  for (const model of setting.models) {
    const ours = await setting.openOurs(model, { sequencesMax: Math.max(...batches) });
    try {
      const cost = await setting.costOf(ours);
      const { newTokens } = model;
      const figures = await takeTurns(
        batches.map((sequences) => ({
          name: String(sequences),
          measure: (round: number) => {
            setting.tell(`${model.name}, curve, ${sequences}`);
            return ours.decode({ sequences, promptTokens, newTokens, seed: round + 2 });
          },
        })),
        // One after the warm-up tells the shape of the curve; the large model's takes minutes.
        model.size === "135M" ? Math.min(3, setting.rounds(model)) : 1,
      );
      const context = promptTokens + newTokens / 2;
      const limitOf = (sequences: number) =>
        sequences / decodeSeconds(cost, setting.machine, { sequences, context });
      const points = batches.map((sequences) => ({
        sequences,
        rate: median(figures[sequences] ?? []),
        limit: limitOf(sequences),
      }));
      yield {
        ...resultOf({
          name: `${model.name}: ${compared} sequences against one`,
          unit: "tokens/s",
          ours: figures[compared] ?? [],
          peer: figures[1] ?? [],
          target,
          limit: limitOf(compared),
        }),
        notes: plot(points),
      } satisfies Result;
    } finally {
      await ours.close();
    }
  }
};

/** One bar for each number of sequences, as long as its rate. */
function plot(points: readonly { sequences: number; rate: number; limit: number }[]): string[] {
  const [first] = points;
  return drawBars(
    points.map(({ sequences, rate, limit }) => {
      const gain = `${(rate / (first?.rate ?? Number.NaN)).toFixed(2)} ×`;
      const figures = `${rate.toFixed(0).padStart(6)} tokens/s ${gain.padStart(8)}`;
      const note = `${figures}, ${Math.round((100 * rate) / limit)} % of the limit`;
      return { label: String(sequences), value: rate, note };
    }),
  );
}
