/** Where the processor time of governed requests goes: a flame graph, and the share of each part. */
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { WebSocket } from "ws";
import { drawFlameGraph, type Profile, sharesOfParts } from "../../flame-graph.ts";
import { bearer, chatAt } from "../setting.ts";
import { crowd } from "../turns.ts";
import type { Lane } from "./table.ts";

/** Of all, of a part that is told by itself. */
const shareMin = 0.01;
const sampleUs = 200;

export const profile: Lane = async function* (setting) {
  const policy = await setting.policy();
  const folder = setting.profile ?? setting.folder;
  await mkdir(folder, { recursive: true });
  const gateway = await setting.openGateway({ policy, inspected: true });
  try {
    const asked = chatAt(gateway.url, bearer(policy.governedKey));
    const send = (requests: number) =>
      setting.load({ asked, concurrency: crowd, seconds: 600, requests });
    setting.tell("warming up");
    await send(setting.full(20_000, 2000));
    setting.tell("what it does");
    const profiler = await openProfiler(gateway.inspectorUrl ?? "");
    const before = gateway.processorMs();
    const { answered } = await send(setting.full(20_000, 2000));
    const usedUs = (1000 * (gateway.processorMs() - before)) / answered;
    const read = await profiler.stop();
    const about = `${answered} governed requests of 256 bytes, 32 at a time: the main thread's time, idle left out`;
    const graph = join(folder, "gateway.svg");
    await writeFile(graph, drawFlameGraph(read, about));
    await writeFile(join(folder, "gateway.cpuprofile"), JSON.stringify(read));
    for (const { part, share } of sharesOfParts(read)) {
      if (share < shareMin) continue;
      yield {
        bench: "gateway",
        case: part,
        unit: "µs of a request",
        ours: share * usedUs,
        peer: usedUs,
        ratio: share,
        target: null,
        notes: [],
      };
    }
    console.log(`  ${graph}`);
  } finally {
    await gateway.stop();
  }
};

/** @see https://chromedevtools.github.io/devtools-protocol/v8/Profiler */
async function openProfiler(url: string): Promise<{ stop(): Promise<Profile> }> {
  const socket = new WebSocket(url, { perMessageDeflate: false });
  await once(socket, "open");
  let last = 0;
  const ask = async (method: string, params = {}): Promise<{ profile: Profile }> => {
    const id = ++last;
    socket.send(JSON.stringify({ id, method, params }));
    for (;;) {
      const [data] = await once(socket, "message");
      const answer = JSON.parse(String(data)) as { id?: number; result: { profile: Profile } };
      if (answer.id === id) return answer.result;
    }
  };
  await ask("Profiler.enable");
  await ask("Profiler.setSamplingInterval", { interval: sampleUs });
  await ask("Profiler.start");
  return {
    async stop() {
      const { profile } = await ask("Profiler.stop");
      socket.close();
      return profile;
    },
  };
}
