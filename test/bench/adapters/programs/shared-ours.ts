/**
 * Our server alone in its process, with as many adapters as it is told: decodes as many sequences as it is asked for,
 * each on the next adapter. Its one argument is JSON: `SharedOptions`.
 */

import type { DecodeWork } from "../../engine/contestant.ts";
import { type OurOptions, openOurs } from "../../engine/ours.ts";
import { memoryBytes } from "../../process-memory.ts";
import { adaptersInMemory } from "../setting.ts";
import type { FromServing } from "./serving.ts";

export type SharedOptions = OurOptions & { adapters: number };

const tell = (message: FromServing) => process.send?.(message);
const emptyBytes = memoryBytes("Pss");
const { adapters: count, ...options } = JSON.parse(process.argv[2] ?? "") as SharedOptions;
const ours = await openOurs(options);
const { engine, model } = ours.server;
const digests = adaptersInMemory(model.shape, count).map((adapter) => {
  engine.loadAdapter(adapter);
  return adapter.digest;
});
// What the adapters were made of is this program's own garbage.
globalThis.gc?.();
process.on("message", async (work: DecodeWork) => {
  const each = Array.from({ length: work.sequences }, (_, index) => digests[index % count] ?? "");
  await ours.decodeWith(each, work);
  tell({ type: "done" });
});
tell({ type: "ready", emptyBytes });
