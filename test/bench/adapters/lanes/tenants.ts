/**
 * One tenant's latency while another one floods the server with more requests than it can take, against the same
 * tenant alone.
 */
import { promptOf } from "../../engine/contestant.ts";
import { boundedResult } from "../../engine/result.ts";
import { quantile, round as rounded } from "../../report.ts";
import { ask, sleep, stopper } from "../clients.ts";
import type { Lane } from "./table.ts";

const latencyRatioMax = 1.5;
const floodClients = 64;
const promptTokens = 64;
const newTokens = 32;
/** Fewer than would fill the machine alone: who fills it has half of it beside another. */
const clients = 2;

type Latencies = { first: number[]; whole: number[] };

export const tenants: Lane = async function* (setting) {
  const server = await setting.open();
  try {
    const { engine } = server;
    let seed = 0;
    const request = (tenant: string) => ({
      prompt: promptOf(promptTokens, seed++),
      newTokens,
      tenant,
    });
    const alone: Latencies = { first: [], whole: [] };
    const flooded: Latencies = { first: [], whole: [] };
    const measure = async (into: Latencies) => {
      const client = async () => {
        for (let count = 0; count < setting.full(30, 4); count++) {
          const startedAt = performance.now();
          const arrivals = await ask(engine, request("modest"));
          into.first.push((arrivals[0] ?? Number.NaN) - startedAt);
          into.whole.push((arrivals.at(-1) ?? Number.NaN) - startedAt);
        }
      };
      await Promise.all(Array.from({ length: clients }, client));
    };
    for (let round = 0; round < setting.full(3, 1); round++) {
      setting.tell(`round ${round + 1}, alone`);
      await measure(alone);
      setting.tell(`round ${round + 1}, beside a flood`);
      const stop = stopper();
      const flood = Array.from({ length: floodClients }, async () => {
        while (!stop.signal.aborted) {
          const flooding = { ...request("flooding"), signal: stop.signal };
          await ask(engine, flooding).catch(() => sleep(50));
        }
      });
      await sleep(setting.full(1500, 500));
      await measure(flooded);
      stop.abort();
      await Promise.all(flood);
    }
    yield* ["whole", "first"].map((what) => result(what as keyof Latencies, alone, flooded));
  } finally {
    await server.close();
  }
};

function result(what: keyof Latencies, alone: Latencies, flooded: Latencies) {
  const at = (latencies: Latencies, share: number) =>
    quantile(Float64Array.from(latencies[what]).sort(), share);
  const name = what === "whole" ? "a request's time" : "a request's first token";
  return {
    ...boundedResult({
      name: `${name}, p95, beside ${floodClients} requests of another tenant`,
      unit: "ms",
      ours: at(flooded, 0.95),
      bound: latencyRatioMax * at(alone, 0.95),
      notes: [
        `alone p95 ${rounded(at(alone, 0.95))} ms and median ${rounded(at(alone, 0.5))} ms, beside the flood median ${rounded(at(flooded, 0.5))} ms; ${clients} clients in a closed loop, ${alone[what].length} and ${flooded[what].length} requests; the bound is ${latencyRatioMax} × alone`,
      ],
    }),
    // The first token is within the whole, which is what is promised.
    ...(what === "first" && { target: null }),
  };
}
