/** Decoding of several sequences together, against the fastest llama.cpp. */
import { hasAmx } from "../../processor.ts";
import { decodeSeconds } from "../least-work.ts";
import { howToGetPeers } from "../peers/peer.ts";
import { type Result, resultOf } from "../result.ts";
import { compare } from "../rounds.ts";
import { promptTokens } from "../setting.ts";
import type { Lane } from "./table.ts";

/** With tiles of int8 rows of a batch are nearly free. Without them we promise not to be slower. */
const targets = new Map([
  [1, 1],
  [4, 1.5],
  [8, 2],
  [16, 2.5],
  [32, 3],
]);

export const decode: Lane = async function* (setting) {
  const batches = setting.quick ? [1, 8] : [...targets.keys()];
  const sequencesMax = Math.max(...batches);
  for (const model of setting.models) {
    const contextTokens = promptTokens + model.newTokens;
    const peers = await setting.openPeers(model, { sequencesMax, contextTokens });
    if (peers.length === 0) throw new Error(howToGetPeers);
    const ours = await setting.openOurs(model, { sequencesMax });
    const cost = await setting.costOf(ours);
    const contestants = peers.flatMap((peer) => peer.contestants);
    try {
      for (const sequences of batches) {
        setting.tell(`${model.name}, decode, ${sequences}`);
        const { newTokens } = model;
        const { peerName, notes, ...figures } = await compare(ours, contestants, {
          rounds: setting.rounds(model),
          measure: (contestant, round) =>
            contestant.decode({ sequences, promptTokens, newTokens, seed: round + 2 }),
        });
        const context = promptTokens + newTokens / 2;
        yield resultOf({
          name: `${model.name}: decode, ${sequences} sequence${sequences > 1 ? "s" : ""}`,
          unit: "tokens/s",
          ...figures,
          ...targetOf(sequences, [`peer: ${peerName}`, ...notes]),
          limit: sequences / decodeSeconds(cost, setting.machine, { sequences, context }),
        });
      }
    } finally {
      await ours.close();
      for (const peer of peers) await peer.close();
    }
  }
};

function targetOf(sequences: number, notes: string[]): Pick<Result, "target" | "notes"> {
  const withAmx = targets.get(sequences) ?? 1;
  if (hasAmx()) return { target: withAmx, notes: [notes.join("; ")] };
  return { target: 1, notes: [[...notes, `with AMX the target is ${withAmx}`].join("; ")] };
}
