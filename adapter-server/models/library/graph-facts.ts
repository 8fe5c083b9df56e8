/** How an imported graph stores its weights, read from the graph itself. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { modelFileName } from "../graph-files.ts";
import { decodeStored, type StoredTensor } from "../onnx-proto.ts";
import { groupTensors, type TensorGroup } from "./tensor-groups.ts";

/** @param folder an import's */
export async function readGraphGroups(folder: string): Promise<TensorGroup[]> {
  const tensors = decodeStored(await readFile(join(folder, modelFileName)));
  const weights = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const groups = groupTensors(
    tensors.map((tensor) => {
      // Scales and zero points belong to the matrix that they are of.
      const matrix = weights.get(tensor.name.replace(/\.\w+$/, ".weight")) ?? tensor;
      return {
        group: groupOf(tensor.name),
        format: formatOf(matrix),
        tensors: matrix === tensor ? 1 : 0,
        parameters: matrix === tensor ? parametersOf(tensor) : 0,
        sizeBytes: tensor.sizeBytes,
      };
    }),
  );
  return groups.filter(({ group }) => group !== "other");
}

function groupOf(name: string): string {
  return groupNames.find(([pattern]) => pattern.test(name))?.[1] ?? "other";
}

function formatOf({ type, blocks }: StoredTensor): string {
  if (blocks && type === "uint8") return `int${blocks.bits} in blocks of ${blocks.blockSize}`;
  // Unsigned where this processor's kernel is exact for those alone.
  return type === "int8" || type === "uint8" ? "int8 rows" : type;
}

/** Blocks are stored as bytes that hold several values each. */
function parametersOf({ type, dims, blocks }: StoredTensor): number {
  const stored = dims.reduce((product, size) => product * size, 1);
  return blocks && type === "uint8" ? (stored * 8) / blocks.bits : stored;
}

/** By the names that `decoder-graph.ts` gives; the rest is constants. */
const groupNames: readonly [RegExp, string][] = [
  [/^embedding/, "embedding"],
  [/norm/i, "norms"],
  [/^layer\d+\.(qkv|o)\b/, "attention"],
  [/^layer\d+\.(gateUp|down)\b/, "feed-forward"],
  [/^logits/, "output"],
];
