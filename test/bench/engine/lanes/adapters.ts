/** What adapters cost: eight sequences, each on an adapter of its own, against eight on the plain base. */
import { decodeSeconds } from "../least-work.ts";
import { adapterRank, randomAdapter } from "../models/random-adapter.ts";
import { resultOf } from "../result.ts";
import { takeTurns } from "../rounds.ts";
import { promptTokens } from "../setting.ts";
import type { Lane } from "./table.ts";

const sequences = 8;
const target = 0.7;

export const adapters: Lane = async function* (setting) {
  const [model] = setting.models.filter(({ size }) => size === "135M");
  if (!model) return;
  const ours = await setting.openOurs(model, { adapterSlots: sequences });
  try {
    const loaded = Array.from({ length: sequences }, (_, index) =>
      randomAdapter(ours.server.model.shape, index + 1),
    );
    for (const adapter of loaded) ours.server.engine.loadAdapter(adapter);
    const digests = loaded.map(({ digest }) => digest);
    const { newTokens } = model;
    setting.tell(`${model.name}, ${sequences} adapters against none`);
    const work = (round: number) => ({ sequences, promptTokens, newTokens, seed: round + 2 });
    const figures = await takeTurns(
      [
        { name: "ours", measure: (round) => ours.decodeWith(digests, work(round)) },
        { name: "base", measure: (round) => ours.decode(work(round)) },
      ],
      setting.rounds(model),
    );
    const cost = await setting.costOf(ours);
    const context = promptTokens + newTokens / 2;
    const step = { sequences, context, adapters: sequences };
    yield resultOf({
      name: `${model.name}: ${sequences} sequences on ${sequences} adapters, against the base`,
      unit: "tokens/s",
      ours: figures.ours,
      peer: figures.base,
      target,
      limit: sequences / decodeSeconds(cost, setting.machine, step),
      notes: [
        `rank ${adapterRank} on every module: ${megabytes(sequences * cost.adapterNumbers * 4)} of adapters beside ${megabytes(cost.weightBytes)} of weights`,
      ],
    });
  } finally {
    await ours.close();
  }
};

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`;
}
