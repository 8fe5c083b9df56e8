/**
 * How long an adapter takes into a slot, from host memory and from disk: the first token of a request whose
 * adapter is not there, less that of the same request when it is. And whether steps go on meanwhile.
 */
import { join } from "node:path";
import type { AdapterServer } from "../../../../adapter-server/server.ts";
import { promptOf } from "../../engine/contestant.ts";
import { readBandwidth } from "../../engine/machine-limits.ts";
import { boundedResult, resultOf } from "../../engine/result.ts";
import { median, round as rounded } from "../../report.ts";
import { type AdapterOnDisk, writeAdapterFolders } from "../adapter-folders.ts";
import { ask, firstTokenMs, gapsOf, sleep, stopper } from "../clients.ts";
import { adapterBytes, adaptersInMemory, baseId, operatorKey } from "../setting.ts";
import type { Lane } from "./table.ts";

const fromHostMsMax = 10;
const fromDiskMsMax = 150;
const promptTokens = 16;
/** Steps in the time of a load, against steps in the same time without. On the step thread there were none. */
const stepsLeast = 0.5;

export const load: Lane = async function* (setting) {
  setting.tell("host memory to slot");
  yield* fromHost(setting);
  setting.tell("disk to slot");
  yield* fromDisk(setting);
};

const fromHost: Lane = async function* (setting) {
  const server = await setting.open({ limits: { adapterSlots: 1 } });
  try {
    const { engine, model } = server;
    const adapters = adaptersInMemory(model.shape, 3);
    for (const adapter of adapters) engine.loadAdapter(adapter);
    const took = await swapTimes(setting.full(24, 4), adapters, (adapter, seed) =>
      firstTokenMs(engine, { prompt: promptOf(promptTokens, seed), adapter: adapter.digest }),
    );
    const bytes = adapterBytes(model.shape);
    // Every number is read once and written once.
    const limit = (2 * bytes * 1000) / (await readBandwidth(setting.threads));
    yield boundedResult({
      name: "host memory to slot, in a request's first token",
      unit: "ms",
      ours: median(took),
      bound: fromHostMsMax,
      limit,
      notes: [
        `${spread(took)}; one slot, adapters in turn; an adapter has ${(bytes / 1e6).toFixed(1)} MB`,
      ],
    });
  } finally {
    await server.close();
  }
};

const fromDisk: Lane = async function* (setting) {
  const root = join(setting.folder, "load-adapters");
  const writer = await setting.open();
  const { shape } = writer.model;
  await writer.close();
  const adapters = await writeAdapterFolders(root, shape, 3);
  const server = await setting.open({
    adapterFolder: root,
    // Room for one that nobody uses: the others are dropped, and have to be read again.
    limits: { adapterSlots: 1, adapterHostBytesMax: 1.5 * adapterBytes(shape) },
  });
  try {
    // What comes from its source for the first time is kept on disk, which the others are read from.
    for (const [index, adapter] of adapters.entries())
      await firstChatTokenMs(server, adapter, index);
    const took = await swapTimes(setting.full(16, 4), adapters, (adapter, seed) =>
      firstChatTokenMs(server, adapter, seed),
    );
    yield boundedResult({
      name: "disk to slot, in a request's first token",
      unit: "ms",
      ours: median(took),
      bound: fromDiskMsMax,
      notes: [
        `${spread(took)}; files of ${rounded(adapterBytes(shape) / 2e6)} MB (bf16), in the system's page cache: read, hashed, checked, packed, copied`,
      ],
    });
    yield await stepsDuringLoads(server, adapters, setting.full(12, 3));
  } finally {
    await server.close();
  }
};

/** One stream of the base decodes, while adapters are read from disk and asked once. */
async function stepsDuringLoads(
  server: AdapterServer,
  adapters: readonly AdapterOnDisk[],
  loads: number,
) {
  const stop = stopper();
  const arrivals: number[] = [];
  const stream = ask(
    server.engine,
    { prompt: promptOf(promptTokens, 1), newTokens: 4000, signal: stop.signal },
    () => arrivals.push(performance.now()),
  ).catch(() => {});
  while (arrivals.length < 8) await sleep(5);
  const during: number[] = [];
  const quiet: number[] = [];
  const gaps: number[] = [];
  for (let load = 0; load < loads; load++) {
    const adapter = adapters[load % adapters.length] as AdapterOnDisk;
    const before = arrivals.length;
    const startedAt = performance.now();
    await firstChatTokenMs(server, adapter, load);
    const tookMs = performance.now() - startedAt;
    during.push(((arrivals.length - before) * 1000) / tookMs);
    gaps.push(Math.max(0, ...gapsOf(arrivals.slice(before - 1))));
    const quietFrom = arrivals.length;
    await sleep(tookMs);
    quiet.push(((arrivals.length - quietFrom) * 1000) / tookMs);
  }
  stop.abort();
  await stream;
  return resultOf({
    name: "steps of a running stream while an adapter comes from disk",
    unit: "steps/s",
    ours: during,
    peer: quiet,
    target: stepsLeast,
    notes: [
      `against the time right after each load; the longest gap in a load is ${rounded(Math.max(...gaps))} ms, the median of these ${rounded(median(gaps))} ms`,
    ],
  });
}

/** A request on an adapter that is not in the slot, then the same adapter again: what it took longer. */
async function swapTimes<Adapter>(
  swaps: number,
  adapters: readonly Adapter[],
  measure: (adapter: Adapter, seed: number) => Promise<number>,
): Promise<number[]> {
  for (const [index, adapter] of adapters.entries()) await measure(adapter, index);
  const took: number[] = [];
  for (let swap = 0; swap < swaps; swap++) {
    const adapter = adapters[swap % adapters.length] as Adapter;
    const away = await measure(adapter, 2 * swap + 10);
    const resident = await measure(adapter, 2 * swap + 11);
    took.push(away - resident);
  }
  return took;
}

/** Through the server's routes, since they are what reads adapters. */
async function firstChatTokenMs(
  { app }: AdapterServer,
  { digest }: AdapterOnDisk,
  seed: number,
): Promise<number> {
  const startedAt = performance.now();
  const response = await app.fetch(
    new Request("http://localhost/v1/chat/completions", {
      method: "POST",
      headers: { authorization: `Bearer ${operatorKey}` },
      body: JSON.stringify({
        model: `${baseId}@sha256-${digest}`,
        messages: [{ role: "user", content: `Question ${seed}` }],
        max_tokens: 1,
        temperature: 0,
      }),
    }),
  );
  if (response.status !== 200) throw new Error(await response.text());
  await response.arrayBuffer();
  return performance.now() - startedAt;
}

function spread(values: readonly number[]): string {
  return `least and largest of ${values.length} ${rounded(Math.min(...values))}–${rounded(Math.max(...values))} ms`;
}
