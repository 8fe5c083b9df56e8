/**
 * A server alone in its process: opens a model, decodes with as many sequences and adapters as it is set up
 * for until every block of its KV cache has been written, and prints what it then holds. Its one argument is
 * JSON: `OurOptions`.
 */
import { serverLimits } from "../../../../adapter-server/config.ts";
import { packedBytes } from "../../../../adapter-server/lora/shared-weights.ts";
import { memoryBytes } from "../../process-memory.ts";
import { promptOf } from "../contestant.ts";
import { readWeightBytes } from "../imported-weights.ts";
import { keyValueBytesOf } from "../least-work.ts";
import { randomAdapter } from "../models/random-adapter.ts";
import { type OurOptions, openOurs } from "../ours.ts";

export type MemoryReport = {
  /** Proportional set: pages shared with other processes count by their share. */
  pssBytes: number;
  rssBytes: number;
  /** Once, as they are quantized. */
  weightBytes: number;
  /** Keys and values of as many tokens as are configured. */
  keyValueBytes: number;
  /** All adapter slots, at the rank in use. */
  slotBytes: number;
  /** Adapters kept in host memory to be copied into slots. */
  hostAdapterBytes: number;
};

const options = JSON.parse(process.argv[2] ?? "") as OurOptions;
const limits = serverLimits.parse(options.limits ?? {});
const ours = await openOurs(options);
const { engine, model } = ours.server;
const adapters = Array.from({ length: limits.adapterSlots }, (_, index) =>
  randomAdapter(model.shape, index + 1),
);
for (const adapter of adapters) engine.loadAdapter(adapter);
// What the adapters were made of is this program's own garbage.
globalThis.gc?.();
// A prompt of the longest chunk needs the largest intermediate results, many sequences the most logits.
await ours.answer([{ prompt: promptOf(2 * limits.prefillChunkMax, 1), newTokens: 2 }]);
const tokensEach = Math.floor(limits.kvCacheTokens / limits.sequencesMax);
const newTokens = 24;
await ours.answer(
  Array.from({ length: limits.sequencesMax }, (_, index) => ({
    prompt: promptOf(tokensEach - newTokens, index + 2),
    newTokens,
    adapter: adapters[index % adapters.length]?.digest,
  })),
);

const hostAdapterBytes = adapters.reduce((sum, adapter) => sum + packedBytes(adapter), 0);
const report: MemoryReport = {
  pssBytes: memoryBytes("Pss"),
  rssBytes: memoryBytes("Rss"),
  weightBytes: (await readWeightBytes(model.graphPath)).all,
  keyValueBytes: limits.kvCacheTokens * keyValueBytesOf(model.dims, limits.kvCacheType),
  // A slot holds what the adapter has; ours are of one rank.
  slotBytes: hostAdapterBytes,
  hostAdapterBytes,
};
console.log(JSON.stringify(report));
await ours.close();
process.exit();
