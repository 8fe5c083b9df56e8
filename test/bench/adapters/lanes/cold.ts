/**
 * The longest wait of an adapter that has no slot, while another one's requests fill the only slot and the queue:
 * after `slotWaitMsMax` nobody joins the slot who would end later than those who are in it, and they finish. The cold
 * requests are another tenant's, so that none waits for its turn.
 */
import { serverLimits } from "../../../../adapter-server/config.ts";
import { promptOf } from "../../engine/contestant.ts";
import { boundedResult } from "../../engine/result.ts";
import { median, round as rounded } from "../../report.ts";
import { ask, firstTokenMs, sleep, stopper } from "../clients.ts";
import { adaptersInMemory } from "../setting.ts";
import type { Lane } from "./table.ts";

const clients = 16;
const sequencesMax = 8;
const promptTokens = 32;
const newTokens = 64;

export const cold: Lane = async function* (setting) {
  const { slotWaitMsMax } = serverLimits.parse({});
  const server = await setting.open({ limits: { adapterSlots: 1, sequencesMax } });
  try {
    const { engine, model } = server;
    const [hot, ...others] = adaptersInMemory(model.shape, 4).map((adapter) => {
      engine.loadAdapter(adapter);
      return adapter.digest;
    });
    const askCold = (round: number) =>
      firstTokenMs(engine, {
        prompt: promptOf(promptTokens, 50_000 + round),
        adapter: others[round % others.length],
        tenant: "cold",
      });
    const alone: number[] = [];
    for (let round = 0; round < 6; round++) alone.push(await askCold(round));
    const stop = stopper();
    /** From a hot request's first token to its last, which is what draining may have to wait for. */
    let longestRunMs = 0;
    let requests = 0;
    const client = async () => {
      while (!stop.signal.aborted) {
        const prompt = promptOf(promptTokens, requests++);
        const arrivals = await ask(engine, {
          prompt,
          newTokens,
          adapter: hot,
          signal: stop.signal,
        }).catch(() => []);
        const [first = 0, last = 0] = [arrivals[0], arrivals.at(-1)];
        longestRunMs = Math.max(longestRunMs, last - first);
      }
    };
    const load = Array.from({ length: clients }, client);
    await sleep(setting.full(3000, 1000));
    const waits: number[] = [];
    for (let round = 0; round < setting.full(12, 2); round++) {
      setting.tell(`cold request ${round + 1}`);
      waits.push(await askCold(100 + round));
      // The hot one gets its slot back, by the same rule.
      await sleep(300);
    }
    stop.abort();
    await Promise.all(load);
    const bound = slotWaitMsMax + longestRunMs + median(alone);
    yield boundedResult({
      name: "longest wait of a cold adapter for its first token, one slot",
      unit: "ms",
      ours: Math.max(...waits),
      bound,
      notes: [
        `median ${rounded(median(waits))} ms of ${waits.length}; the bound is slotWaitMsMax (${slotWaitMsMax} ms), the longest run of a hot request (${rounded(longestRunMs)} ms), and a first token alone (${rounded(median(alone))} ms)`,
        `${clients} hot clients in a closed loop, ${sequencesMax} run at a time, answers of ${newTokens} tokens`,
      ],
    });
  } finally {
    await server.close();
  }
};
