/**
 * What streams feel of adapters that come and go: gaps between the tokens of eight of them, each on an adapter of
 * its own, while a hundred others are loaded from disk and dropped again by vLLM's routes, one after the other.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { AdapterServer } from "../../../../adapter-server/server.ts";
import { promptOf } from "../../engine/contestant.ts";
import { boundedResult, type Result } from "../../engine/result.ts";
import { quantile, round as rounded } from "../../report.ts";
import { type AdapterOnDisk, writeAdapterFolders } from "../adapter-folders.ts";
import { ask, gapsOf, sleep, stopper } from "../clients.ts";
import { adaptersInMemory, operatorKey } from "../setting.ts";
import type { Lane } from "./table.ts";

const streams = 8;
const promptTokens = 32;
const gapRatioMax = 1.5;

export const churn: Lane = async function* (setting) {
  const root = join(setting.folder, "churn-adapters");
  await mkdir(root, { recursive: true });
  const server = await setting.open({ adapterFolder: root, limits: { adapterSlots: streams + 2 } });
  try {
    const { engine, model } = server;
    const resident = adaptersInMemory(model.shape, streams).map((adapter) => {
      engine.loadAdapter(adapter);
      return adapter.digest;
    });
    const rounds = setting.full(10, 2);
    const loadsARound = setting.full(10, 3);
    setting.tell(`${streams} streams, ${rounds * loadsARound} adapters`);
    const adapters = await writeAdapterFolders(root, model.shape, rounds * loadsARound);
    for (const asked of [false, true]) {
      const quiet: number[] = [];
      const busy: number[] = [];
      let loadMs = 0;
      // Short ones in turns: steps grow longer with what a stream has said, and whatever disturbs meets both.
      for (let round = 0; round < rounds; round++) {
        const some = adapters.slice(round * loadsARound, (round + 1) * loadsARound);
        const running = await startStreams(server, resident, round);
        try {
          const from = performance.now();
          for (const { name } of some) await loadAndDrop(server, name, asked);
          const until = performance.now();
          loadMs += until - from;
          await sleep(until - from);
          busy.push(...running.gaps(from, until));
          quiet.push(...running.gaps(until, performance.now()));
        } finally {
          await running.stop();
        }
      }
      yield gapResult({ quiet, busy, asked, adapters, loadMs });
    }
  } finally {
    await server.close();
  }
};

function gapResult({
  quiet,
  busy,
  asked,
  adapters,
  loadMs,
}: {
  quiet: number[];
  busy: number[];
  asked: boolean;
  adapters: readonly AdapterOnDisk[];
  loadMs: number;
}): Result {
  const [p99Quiet, p99Busy] = [quiet, busy].map((gaps) => quantile(sorted(gaps), 0.99));
  const most = (gaps: readonly number[]) => rounded(gaps.reduce((a, b) => Math.max(a, b), 0));
  return {
    ...boundedResult({
      name: `gap between tokens of ${streams} streams, p99, ${adapters.length} adapters ${asked ? "loaded, asked and dropped" : "loaded and dropped"}`,
      unit: "ms",
      ours: p99Busy ?? Number.NaN,
      bound: gapRatioMax * (p99Quiet ?? Number.NaN),
      notes: [
        `quiet p99 ${rounded(p99Quiet ?? Number.NaN)} ms and median ${rounded(quantile(sorted(quiet), 0.5))} ms, busy median ${rounded(quantile(sorted(busy), 0.5))} ms; longest ${most(quiet)} and ${most(busy)} ms`,
        `${rounded(loadMs / adapters.length)} ms for one; ${busy.length} gaps busy, ${quiet.length} quiet; the bound is ${gapRatioMax} × quiet`,
      ],
    }),
    // What is promised is without requests of the newcomers, which are prompts to be computed like any other's.
    ...(asked && { target: null }),
  };
}

async function startStreams({ engine }: AdapterServer, adapters: readonly string[], seed: number) {
  const stop = stopper();
  const arrivals: number[][] = adapters.map(() => []);
  const all = adapters.map((adapter, index) =>
    ask(
      engine,
      {
        prompt: promptOf(promptTokens, seed * 100 + index),
        newTokens: 1500,
        adapter,
        signal: stop.signal,
      },
      () => arrivals[index]?.push(performance.now()),
    ).catch((error: unknown) => {
      if (!stop.signal.aborted) throw error;
    }),
  );
  while (arrivals.some(({ length }) => length < 4)) await sleep(5);
  return {
    gaps: (from: number, until: number) =>
      arrivals.flatMap((times) => gapsOf(times.filter((time) => time >= from && time <= until))),
    async stop() {
      stop.abort();
      await Promise.all(all);
    },
  };
}

async function loadAndDrop(server: AdapterServer, name: string, asked: boolean): Promise<void> {
  await post(server, "/v1/load_lora_adapter", { lora_name: name, lora_path: name });
  if (asked) {
    const messages = [{ role: "user", content: "Hello" }];
    await post(server, "/v1/chat/completions", { model: name, messages, max_tokens: 1 });
  }
  await post(server, "/v1/unload_lora_adapter", { lora_name: name });
}

async function post({ app }: AdapterServer, path: string, body: object): Promise<void> {
  const response = await app.fetch(
    new Request(`http://localhost${path}`, {
      method: "POST",
      headers: { authorization: `Bearer ${operatorKey}`, "content-type": "application/json" },
      body: JSON.stringify(body),
    }),
  );
  const text = await response.text();
  if (response.status !== 200) throw new Error(`${path}: ${text}`);
}

const sorted = (values: readonly number[]) => Float64Array.from(values).sort();
