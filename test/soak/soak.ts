/**
 * Random requests, cancels, loads and unloads against a small server with short queues, in one process with it.
 * Every answer is read for exactly one end; afterwards nothing may be held any more, and memory may not have grown.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { demoShape } from "../../adapter-server/__fixtures__/demo-model.ts";
import { folderSource } from "../../adapter-server/lora/adapter-source.ts";
import { openTestServer, type TestServer } from "../support/adapter-server.ts";
import { eventually } from "../support/api.ts";
import { type SoakAdapters, writeSoakAdapters } from "./adapters.ts";
import { perform } from "./perform.ts";
import { RandomActions } from "./random-requests.ts";

export type SoakOptions = {
  requests: number;
  seed: number;
  onProgress?: (done: number, residentBytes: number) => void;
};

export type SoakReport = {
  /** How requests ended, by kind. */
  outcomes: Record<string, number>;
  /** What must not have happened; empty when all is well. */
  problems: string[];
  /** Resident memory when all was idle, after each tenth of the requests. */
  residentBytes: number[];
  /** The least of their last third against that of the middle one: warm by then, and garbage of other threads comes and goes. */
  growth: number;
};

const clients = 24;
const stages = 12;
const slots = 3;

export async function soak({ requests, seed, onProgress }: SoakOptions): Promise<SoakReport> {
  const root = await mkdtemp(join(tmpdir(), "switchyard-soak-"));
  const adapters = await writeSoakAdapters(root, demoShape);
  const server = await openTestServer({
    adapterFolders: [root],
    source: await folderSource([root], 1 << 30),
    limits: {
      adapterSlots: slots,
      // Two of the largest: loads from disk are many.
      adapterHostBytesMax: 6 << 20,
      sequencesMax: 8,
      waitingMax: 16,
      kvCacheTokens: 2048,
      slotWaitMsMax: 50,
    },
  });
  try {
    const actions = new RandomActions(seed, adapters);
    const report: SoakReport = { outcomes: {}, problems: [], residentBytes: [], growth: 0 };
    let started = 0;
    for (let stage = 1; stage <= stages; stage++) {
      const until = Math.round((requests * stage) / stages);
      const client = async () => {
        while (started < until) {
          const number = started++;
          const { outcome, problem } = await perform(server, actions.next());
          report.outcomes[outcome] = (report.outcomes[outcome] ?? 0) + 1;
          if (problem !== undefined) report.problems.push(`request ${number}: ${problem}`);
        }
      };
      await Promise.all(Array.from({ length: clients }, client));
      report.problems.push(...(await whatIsHeld(server)));
      collectGarbage();
      report.residentBytes.push(process.memoryUsage.rss());
      onProgress?.(until, report.residentBytes.at(-1) ?? 0);
    }
    report.problems.push(...(await whatCannotBeUsed(server, adapters)));
    report.problems.push(...server.faults.map(({ message, cause }) => `${message}: ${cause}`));
    report.growth = growthOf(report.residentBytes);
    return report;
  } finally {
    await server.close();
    await rm(root, { recursive: true, force: true });
  }
}

/** Nothing runs, so nothing may be held. */
async function whatIsHeld({ engine }: TestServer): Promise<string[]> {
  const held = () => {
    const { running, waiting, blocksUsed } = engine.stats();
    return { running, waiting, blocksUsed };
  };
  const idle = await eventually("the engine to be idle", async () =>
    Object.values(held()).every((count) => count === 0) ? true : undefined,
  ).catch(() => false);
  const { restarts } = engine.stats();
  return [
    ...(idle ? [] : [`held although nothing runs: ${JSON.stringify(held())}`]),
    ...(restarts === 0 ? [] : [`the engine died ${restarts} times`]),
  ];
}

/** A block or a slot that leaked is one that cannot be used: all of them are, at once. */
async function whatCannotBeUsed(server: TestServer, adapters: SoakAdapters): Promise<string[]> {
  const problems: string[] = [];
  const ask = (model: string, words: number, tokens: number) =>
    server.post("/v1/chat/completions", {
      model,
      messages: [{ role: "user", content: "word ".repeat(words) }],
      max_tokens: tokens,
      ignore_eos: true,
      temperature: 0,
    });
  let together = 0;
  const watch = setInterval(() => {
    const { runningByAdapter } = server.engine.stats();
    together = Math.max(together, Object.keys(runningByAdapter).length);
  }, 1);
  const answers = await Promise.all(
    adapters.digests.slice(0, slots).map((digest) => ask(`sha256-${digest}`, 4, 300)),
  );
  clearInterval(watch);
  if (together < slots) problems.push(`only ${together} of ${slots} slots can be used at once`);
  for (const { status } of answers) if (status !== 200) problems.push(`a slot answers ${status}`);
  // Nearly the whole cache, for one sequence.
  const { status } = await ask("support-tiny", 1400, 500);
  if (status !== 200) problems.push(`a request that fills the cache answers ${status}`);
  return problems;
}

function growthOf(samples: readonly number[]): number {
  const third = Math.floor(samples.length / 3);
  return Math.min(...samples.slice(-third)) / Math.min(...samples.slice(third, 2 * third)) - 1;
}

function collectGarbage(): void {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
}
