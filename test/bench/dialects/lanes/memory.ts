/** Long prompts, many at a time: what the gateway's process holds while they stream, and when they are gone. */
import { setTimeout as sleep } from "node:timers/promises";
import { boundedResult } from "../../engine/result.ts";
import { residentBytes } from "../../process-memory.ts";
import { ask } from "../clients.ts";
import type { Pair } from "../options.ts";
import type { Lane } from "./table.ts";

const promptBytes = 150_000;
const streamsAtOnce = 500;
const peakMbMax = 300;
/** What may stay, of what it held before. */
const idleShareMax = 1.1;
const sampleMs = 25;

export const memory: Lane = async function* (setting) {
  for (const { client, upstream } of setting.pairs ?? pairs) {
    const gateway = await setting.openGateway();
    try {
      const resident = () => residentBytes(gateway.pid) / 1e6;
      const load = (streams: number, seconds: number) =>
        setting.load({
          asked: ask(client, {
            origin: gateway.url,
            key: setting.apiKey,
            model: `${upstream}-paced`,
            promptBytes,
          }),
          streams,
          seconds,
          spreadMs: 1300,
        });
      setting.tell(`${client} of ${upstream}: a few, to see what it holds when idle`);
      await load(8, setting.full(5, 1));
      await sleep(setting.full(5000, 500));
      const idle = resident();

      setting.tell(`${client} of ${upstream}: ${streamsAtOnce} at a time`);
      let peak = 0;
      const sampling = setInterval(() => {
        peak = Math.max(peak, resident());
      }, sampleMs);
      const loading = load(streamsAtOnce, setting.full(20, 2));
      const { ended } = await loading.finally(() => clearInterval(sampling));

      let after = resident();
      for (let waitedMs = 0; waitedMs < setting.full(30_000, 2000); waitedMs += 500) {
        if (after <= idle * idleShareMax) break;
        await sleep(500);
        after = Math.min(after, resident());
      }
      const how = client === upstream ? "passed" : "translated";
      const name = `${client} of ${upstream}, ${how}`;
      yield boundedResult({
        name: `${name}: resident at its peak`,
        unit: "MB",
        ours: peak,
        bound: peakMbMax,
        notes: [`${ended} prompts; idle ${idle.toFixed(0)} MB`],
      });
      yield boundedResult({
        name: `${name}: resident afterwards`,
        unit: "MB",
        ours: after,
        bound: idle * idleShareMax,
      });
    } finally {
      await gateway.stop();
    }
  }
};

const pairs: readonly Pair[] = [
  { client: "openai-chat", upstream: "openai-chat" },
  { client: "anthropic-messages", upstream: "openai-chat" },
  { client: "openai-responses", upstream: "gemini" },
];
