/** What an import's graph says of its weights' sizes. Its file has them twice: as stored, and packed for the processor. */
import { readFile } from "node:fs/promises";
import { externalDataOf } from "../../../adapter-server/models/onnx-proto.ts";

export type WeightBytes = {
  /** All weights, once. */
  all: number;
  /** Those that every step reads whole: all but the embedding. */
  everyStep: number;
};

export async function readWeightBytes(graphPath: string): Promise<WeightBytes> {
  const bytes = { all: 0, everyStep: 0 };
  for (const [name, entries] of externalDataOf(await readFile(graphPath))) {
    // Constants inside of the graph have no length, and next to no size.
    const length = Number(entries.find(({ key }) => key === "length")?.value ?? 0);
    bytes.all += length;
    if (!name.startsWith("embedding.")) bytes.everyStep += length;
  }
  return bytes;
}
