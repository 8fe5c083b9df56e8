/** Clients of a server in this process: requests of token ids to the engine, in closed loops, with their times. */
import { setMaxListeners } from "node:events";
import type { Engine } from "../../../adapter-server/engine/engine.ts";
import { greedy } from "../engine/ours.ts";

export type Ask = {
  prompt: readonly number[];
  newTokens: number;
  adapter?: string | undefined;
  tenant?: string;
  signal?: AbortSignal;
};

/**
 * Decodes one sequence that nothing ends early.
 * @param onTokens hears of tokens as they come
 * @returns when each token came; those that came together have one time
 */
export async function ask(
  engine: Engine,
  { prompt, newTokens, adapter, tenant = "bench", signal }: Ask,
  onTokens: (count: number) => void = () => {},
): Promise<number[]> {
  const arrivals: number[] = [];
  const batches = engine.generate({
    prompt,
    maxTokens: newTokens,
    sampling: greedy(0),
    stopIds: [],
    adapter,
    tenant,
    signal,
  });
  for await (const { tokens } of batches) {
    const now = performance.now();
    for (const _token of tokens) arrivals.push(now);
    onTokens(tokens.length);
  }
  return arrivals;
}

/** Milliseconds until the first token of a request for one. */
export async function firstTokenMs(engine: Engine, request: Omit<Ask, "newTokens">) {
  const startedAt = performance.now();
  await ask(engine, { ...request, newTokens: 1 });
  return performance.now() - startedAt;
}

/**
 * So many clients, each with its next request as soon as the last is answered.
 * @param next  the request of a client; counted from 0
 * @returns tokens a second after a warm-up, until the time is up
 */
export async function closedLoop(
  engine: Engine,
  options: {
    clients: number;
    warmUpMs: number;
    measuredMs: number;
    next(request: number): Ask;
  },
): Promise<number> {
  const { clients, warmUpMs, measuredMs, next } = options;
  const stop = stopper();
  let requests = 0;
  let tokens = 0;
  const client = async () => {
    while (!stop.signal.aborted) {
      const request = { ...next(requests++), signal: stop.signal };
      await ask(engine, request, (count) => {
        tokens += count;
      }).catch((error: unknown) => {
        if (!stop.signal.aborted) throw error;
      });
    }
  };
  const all = Promise.all(Array.from({ length: clients }, client));
  await Promise.race([all, sleep(warmUpMs)]);
  const [startedAt, before] = [performance.now(), tokens];
  await Promise.race([all, sleep(measuredMs)]);
  const rate = ((tokens - before) * 1000) / (performance.now() - startedAt);
  stop.abort();
  await all;
  return rate;
}

/** What ends many requests at once. */
export function stopper(): AbortController {
  const stop = new AbortController();
  setMaxListeners(0, stop.signal);
  return stop;
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Between neighbours. */
export function gapsOf(arrivals: readonly number[]): number[] {
  return arrivals.slice(1).map((time, index) => time - (arrivals[index] ?? Number.NaN));
}
