/**
 * N fine-tuned models for N tasks, served in two ways: one process of ours with N adapters, or N processes of
 * llama.cpp with a merged model each. The same requests in all: what they hold in memory, and tokens a second.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { copyFile, mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { resultOf } from "../../engine/result.ts";
import { takeTurns } from "../../engine/rounds.ts";
import { drawBars } from "../../plot.ts";
import { knowsProcessMemory, memoryBytes } from "../../process-memory.ts";
import { median, round as rounded } from "../../report.ts";
import type { FromServing } from "../programs/serving.ts";
import type { SharedOptions } from "../programs/shared-ours.ts";
import type { Setting } from "../setting.ts";
import type { Lane } from "./table.ts";

const workOf = ({ full }: Setting) => ({
  /** In all, however many models they are spread over. */
  requests: full(32, 4),
  promptTokens: full(64, 16),
  newTokens: full(32, 4),
});
type Work = ReturnType<typeof workOf>;

export const merged: Lane = async function* (setting) {
  if (!knowsProcessMemory) {
    setting.tell("memory is read from Linux's /proc; this lane is left out");
    return;
  }
  const work = workOf(setting);
  const counts = setting.quick ? [1, 2] : [1, 2, 4, 8, 16];
  const copies = await copyCheckpoint(setting, Math.max(...counts));
  const points: Point[] = [];
  for (const models of counts) {
    setting.tell(`${models} models`);
    const point = await measure(setting, copies.slice(0, models));
    points.push(point);
    yield resultOf({
      name: `${models} adapters in one process against ${models} merged in llama.cpp`,
      unit: "tokens/s",
      ours: point.ours.rates,
      peer: point.peer.rates,
      target: null,
      notes: [
        `${work.requests} requests in all, prompts of ${work.promptTokens}, answers of ${work.newTokens}; llama.cpp's best was with ${point.peer.threads} threads each`,
      ],
    });
  }
  await rm(join(setting.folder, "merged"), { recursive: true, force: true });
  const most = points.at(-1);
  if (!most) return;
  yield {
    ...resultOf({
      name: `memory of ${most.models} merged llama.cpp processes, against one process of ours`,
      unit: "MB",
      ours: [most.ours.bytes / 1e6],
      peer: [most.peer.bytes / 1e6],
      target: null,
    }),
    ratio: most.peer.bytes / most.ours.bytes,
    notes: [
      "PSS, less what each process held before it opened its model; ours has its KV cache for all requests and all adapters in host memory and in slots",
      ...memoryPlot(points),
    ],
  };
};

type Side = { rates: number[]; bytes: number; threads: number };
type Point = { models: number; ours: Side; peer: Side };

/** A merged model is a file of its own: no two processes share its pages. */
async function copyCheckpoint({ model, folder, tell }: Setting, count: number): Promise<string[]> {
  tell(`copying the checkpoint ${count} times`);
  const root = join(folder, "merged");
  await mkdir(root, { recursive: true });
  const paths = Array.from({ length: count }, (_, index) => join(root, `model-${index}.gguf`));
  for (const path of paths) await copyFile(model.path, path);
  return paths;
}

async function measure(setting: Setting, paths: readonly string[]): Promise<Point> {
  const models = paths.length;
  const { threads: cores } = setting;
  const { requests, promptTokens, newTokens } = workOf(setting);
  // As many threads as cores, or each process as many as are its share; more than that only spin.
  const threadChoices = models > cores ? [1] : [...new Set([Math.floor(cores / models), cores])];
  const open = {
    ours: async (): Promise<Serving> =>
      openServing(workOf(setting), sharedOurs, [sharedOptions(setting, models)]),
    peer: (threads: number): Promise<Serving> =>
      openServing(
        workOf(setting),
        mergedLlama,
        paths.map((path) => ({
          path,
          threads,
          sequencesMax: requests / models,
          contextTokens: promptTokens + newTokens,
        })),
      ),
  };
  // One at a time: processes that wait still spin, and 16 of them fill the memory.
  let best = { threads: threadChoices[0] ?? 1, rate: 0 };
  for (const threads of threadChoices.length > 1 ? threadChoices : []) {
    const serving = await open.peer(threads);
    await serving.rate(-1);
    const rate = await serving.rate(0);
    await serving.close();
    if (rate > best.rate) best = { threads, rate };
  }
  const bytes = { ours: 0, peer: 0 };
  const measured = (side: "ours" | "peer") => async (round: number) => {
    if (round < 0) return Number.NaN;
    const serving = await (side === "ours" ? open.ours() : open.peer(best.threads));
    await serving.rate(-1);
    const rate = median([await serving.rate(2 * round), await serving.rate(2 * round + 1)]);
    bytes[side] = serving.bytes();
    await serving.close();
    return rate;
  };
  const figures = await takeTurns(
    [
      { name: "ours", measure: measured("ours") },
      { name: "peer", measure: measured("peer") },
    ],
    setting.full(2, 1),
  );
  return {
    models,
    ours: { rates: figures.ours, bytes: bytes.ours, threads: cores },
    peer: { rates: figures.peer, bytes: bytes.peer, threads: best.threads },
  };
}

function sharedOptions(setting: Setting, adapters: number): SharedOptions {
  const { model, format, folder, threads } = setting;
  const { requests, promptTokens, newTokens } = workOf(setting);
  return {
    path: model.path,
    format,
    dataDir: join(folder, "data"),
    threads,
    adapters,
    limits: {
      adapterSlots: adapters,
      sequencesMax: requests,
      // As much as the requests need, as the peers' contexts are.
      kvCacheTokens: requests * (promptTokens + newTokens),
    },
  };
}

type Serving = {
  /** Tokens a second of all requests at once, from the first to the last. */
  rate(round: number): Promise<number>;
  bytes(): number;
  close(): Promise<void>;
};

/** One process for each of the options, all of them ready. */
async function openServing(
  { requests, promptTokens, newTokens }: Work,
  program: URL,
  options: readonly object[],
): Promise<Serving> {
  const processes: { child: ChildProcess; emptyBytes: number }[] = [];
  for (const each of options) {
    const child = fork(fileURLToPath(program), [JSON.stringify(each)], {
      execArgv: ["--expose-gc", "--import", "tsx"],
      stdio: ["ignore", "ignore", "inherit", "ipc"],
    });
    const ready = await heard(child);
    if (ready.type !== "ready") throw new Error(`${program} is not ready`);
    processes.push({ child, emptyBytes: ready.emptyBytes });
  }
  const children = processes.map(({ child }) => child);
  const sequences = requests / children.length;
  return {
    async rate(round) {
      const startedAt = performance.now();
      const answers = children.map((child) => heard(child));
      for (const [index, child] of children.entries()) {
        child.send({ sequences, promptTokens, newTokens, seed: (round + 2) * 50 + index });
      }
      await Promise.all(answers);
      return (requests * newTokens * 1000) / (performance.now() - startedAt);
    },
    bytes: () =>
      processes.reduce(
        (sum, { child, emptyBytes }) => sum + memoryBytes("Pss", child.pid) - emptyBytes,
        0,
      ),
    async close() {
      const gone = children.map((child) => once(child, "exit"));
      for (const child of children) child.kill("SIGKILL");
      await Promise.all(gone);
    },
  };
}

async function heard(child: ChildProcess): Promise<FromServing> {
  const over = new AbortController();
  const message = once(child, "message", { signal: over.signal });
  const gone = once(child, "exit", { signal: over.signal }).then(() => {
    throw new Error("a serving process ended");
  });
  try {
    const [first] = await Promise.race([message, gone]);
    return first as FromServing;
  } finally {
    // Whoever of the two lost the race is not waited for.
    for (const waiting of [message, gone]) waiting.catch(() => {});
    over.abort();
  }
}

function memoryPlot(points: readonly Point[]): string[] {
  return drawBars(
    points.flatMap(({ models, ours, peer }) => [
      bar(`${models} in one process`, ours),
      bar(`${models} merged`, peer),
    ]),
  );
}

function bar(label: string, { bytes, rates }: Side) {
  const note = `${rounded(bytes / 1e6).padStart(6)} MB, ${rounded(median(rates)).padStart(5)} tokens/s`;
  return { label, value: bytes, note };
}

const sharedOurs = new URL("../programs/shared-ours.ts", import.meta.url);
const mergedLlama = new URL("../programs/merged-llama.ts", import.meta.url);
