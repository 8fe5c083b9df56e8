/** Reading a prompt, against the fastest llama.cpp. */
import { promptOf } from "../contestant.ts";
import { prefillSeconds } from "../least-work.ts";
import type { ModelSize } from "../options.ts";
import { howToGetPeers } from "../peers/peer.ts";
import { resultOf } from "../result.ts";
import { compare } from "../rounds.ts";
import type { Lane } from "./table.ts";

const lengths = [256, 512];
const targets: Record<ModelSize, { least: number; aim: number }> = {
  "135M": { least: 1.3, aim: 2 },
  "1.1B": { least: 2.5, aim: 4 },
};

export const prefill: Lane = async function* (setting) {
  for (const model of setting.models) {
    const needs = { sequencesMax: 1, contextTokens: 640 };
    const peers = await setting.openPeers(model, needs);
    if (peers.length === 0) throw new Error(howToGetPeers);
    const ours = await setting.openOurs(model);
    const cost = await setting.costOf(ours);
    const { least, aim } = targets[model.size];
    try {
      for (const tokens of setting.quick ? lengths.slice(0, 1) : lengths) {
        setting.tell(`${model.name}, prefill, ${tokens}`);
        const { peerName, notes, ...figures } = await compare(
          ours,
          peers.flatMap((peer) => peer.contestants),
          {
            rounds: setting.rounds(model),
            measure: (contestant, round) => contestant.prefill(promptOf(tokens, round + tokens)),
          },
        );
        yield resultOf({
          name: `${model.name}: prefill of ${tokens} tokens`,
          unit: "tokens/s",
          ...figures,
          target: least,
          limit: tokens / prefillSeconds(cost, setting.machine, tokens),
          notes: [[`peer: ${peerName}`, ...notes, `the aim is ${aim}`].join("; ")],
        });
      }
    } finally {
      await ours.close();
      for (const peer of peers) await peer.close();
    }
  }
};
