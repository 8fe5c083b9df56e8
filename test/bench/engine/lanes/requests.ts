/**
 * Requests that come at once, each on an adapter of its own, from the first to the last answer. llama.cpp
 * applies one set of adapters to a whole batch, so it answers them one after the other.
 */
import { join } from "node:path";
import { promptOf } from "../contestant.ts";
import { decodeSeconds, prefillSeconds } from "../least-work.ts";
import { adapterRank, randomAdapter, writeAdapterGguf } from "../models/random-adapter.ts";
import { resultOf } from "../result.ts";
import { takeTurns } from "../rounds.ts";
import { promptTokens } from "../setting.ts";
import type { Lane } from "./table.ts";

const newTokens = 48;
const targets = new Map([
  [8, 4],
  [32, 8],
]);

export const requests: Lane = async function* (setting) {
  const [model] = setting.models.filter(({ size }) => size === "135M");
  if (!model) return;
  const counts = setting.quick ? [8] : [...targets.keys()];
  const most = Math.max(...counts);
  const needs = { sequencesMax: 1, contextTokens: promptTokens + newTokens };
  const peers = await setting.openPeers(model, needs);
  const [peer] = peers.filter((each) => each.answer !== undefined);
  if (!peer?.answer) throw new Error("this lane needs llama-cpp-python; see --help of decode");
  const ours = await setting.openOurs(model, { adapterSlots: most, sequencesMax: most });
  try {
    setting.tell(`making ${most} adapters of rank ${adapterRank}`);
    const adapters: { file: string; digest: string }[] = [];
    for (let index = 0; index < most; index++) {
      const adapter = randomAdapter(ours.server.model.shape, index + 1);
      const file = join(setting.folder, `adapter-${index}.gguf`);
      await writeAdapterGguf(file, adapter);
      ours.server.engine.loadAdapter(adapter);
      adapters.push({ file, digest: adapter.digest });
    }
    const cost = await setting.costOf(ours);
    for (const count of counts) {
      setting.tell(`${model.name}, ${count} requests on ${count} adapters`);
      const asked = (round: number) =>
        adapters.slice(0, count).map(({ file, digest }, index) => ({
          prompt: promptOf(promptTokens, (round + 2) * 1000 + index),
          newTokens,
          file,
          digest,
        }));
      const rate = (ms: number) => (count * 1000) / ms;
      const figures = await takeTurns(
        [
          {
            name: "ours",
            measure: async (round) =>
              rate(
                await ours.answer(
                  asked(round).map(({ digest, ...request }) => ({ ...request, adapter: digest })),
                ),
              ),
          },
          {
            name: "peer",
            measure: async (round) =>
              rate(
                (await peer.answer?.(
                  asked(round).map(({ file, ...request }) => ({ ...request, adapter: file })),
                )) ?? Number.NaN,
              ),
          },
        ],
        Math.min(3, setting.rounds(model)),
      );
      const steps = { sequences: count, context: promptTokens + newTokens / 2, adapters: count };
      const seconds =
        count * prefillSeconds(cost, setting.machine, promptTokens) +
        (newTokens - 1) * decodeSeconds(cost, setting.machine, steps);
      yield resultOf({
        name: `${model.name}: ${count} requests on ${count} adapters, start to end`,
        unit: "requests/s",
        ...figures,
        target: targets.get(count) ?? null,
        limit: count / seconds,
        notes: [
          `prompts of ${promptTokens}, ${newTokens} new tokens, rank ${adapterRank} on every module; ${most} adapter slots; the peer's adapters are F16`,
        ],
      });
    }
  } finally {
    await ours.close();
    for (const each of peers) await each.close();
  }
};
