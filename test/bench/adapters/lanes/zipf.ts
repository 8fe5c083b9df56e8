/**
 * Many adapters over few slots: sixteen clients in a closed loop, each request on an adapter drawn by Zipf's law,
 * against the same clients on as many adapters as there are slots. All lie in host memory.
 */
import { promptOf } from "../../engine/contestant.ts";
import { RandomNumbers } from "../../engine/models/random-numbers.ts";
import { resultOf } from "../../engine/result.ts";
import { takeTurns } from "../../engine/rounds.ts";
import { drawBars } from "../../plot.ts";
import { median } from "../../report.ts";
import { closedLoop } from "../clients.ts";
import { adaptersInMemory } from "../setting.ts";
import type { Lane } from "./table.ts";

const slots = 8;
const clients = 16;
const promptTokens = 32;
const newTokens = 32;
const compared = 64;
const least = 0.7;
const counts = [1, 2, 4, 8, 16, 32, 64, 128, 256];

export const zipf: Lane = async function* (setting) {
  const server = await setting.open({ limits: { adapterSlots: slots, sequencesMax: 32 } });
  try {
    const { engine, model } = server;
    const digests = adaptersInMemory(model.shape, Math.max(...counts)).map((adapter) => {
      engine.loadAdapter(adapter);
      return adapter.digest;
    });
    const rate = (adapters: number) => async (round: number) => {
      setting.tell(`${adapters} adapters`);
      const draw = zipfDraws(adapters, round + 2);
      return closedLoop(engine, {
        clients,
        warmUpMs: setting.full(1500, 500),
        measuredMs: setting.full(5000, 1000),
        next: (request) => ({
          prompt: promptOf(promptTokens, (round + 2) * 100_000 + adapters * 10_000 + request),
          newTokens,
          adapter: digests[draw()],
        }),
      });
    };
    const rounds = setting.full(4, 1);
    const figures = await takeTurns(
      [
        { name: "many", measure: rate(compared) },
        { name: "few", measure: rate(slots) },
      ],
      rounds,
    );
    yield resultOf({
      name: `${compared} adapters over ${slots} slots, Zipf 1.0, ${clients} clients, against ${slots} adapters`,
      unit: "tokens/s",
      ours: figures.many,
      peer: figures.few,
      target: least,
      notes: [
        `prompts of ${promptTokens}, answers of ${newTokens}; ${slots} adapters are drawn by the same law`,
      ],
    });

    const sweep = await takeTurns(
      counts.map((count) => ({
        name: String(count),
        // All is warm by now.
        measure: async (round: number) => (round < 0 ? Number.NaN : rate(count)(round)),
      })),
      setting.full(2, 1),
    );
    const points = counts.map((count) => ({ count, rate: median(sweep[count] ?? []) }));
    const steps = points.slice(1).map(({ rate: next }, index) => next / (points[index]?.rate ?? 1));
    yield {
      ...resultOf({
        name: `${counts.at(-1)} adapters over ${slots} slots, against 1`,
        unit: "tokens/s",
        ours: sweep[counts.at(-1) ?? 0] ?? [],
        peer: sweep[1] ?? [],
        target: null,
      }),
      notes: [
        ...drawBars(
          points.map((point) => ({
            label: `${point.count} adapters`,
            value: point.rate,
            note: `${point.rate.toFixed(0).padStart(6)} tokens/s`,
          })),
        ),
        `the steepest doubling leaves ${Math.round(100 * Math.min(...steps))} %`,
      ],
    };
  } finally {
    await server.close();
  }
};

/** Draws 0, 1, 2, … in proportion to 1, 1/2, 1/3, … */
function zipfDraws(count: number, seed: number): () => number {
  const random = new RandomNumbers(seed);
  let total = 0;
  const cumulative = Array.from({ length: count }, (_, index) => {
    total += 1 / (index + 1);
    return total;
  });
  return () => {
    const point = (random.bits() / 2 ** 32) * total;
    return cumulative.findIndex((sum) => point < sum);
  };
}
