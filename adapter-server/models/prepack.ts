/**
 * Stores beside the weights how ONNX Runtime packs them for this processor, so that they are mapped instead of held:
 * sessions and processes that open the same import share one copy.
 *
 * The runtime packs each weight again when it opens a graph, and takes the stored bytes where the hash beside them is
 * that of its own; a machine that packs otherwise is served by what it packed. It can write packed weights, but not where kernels may use them
 * (1.30): MatMulNBits takes addresses inside of a buffer from how the buffer is aligned, and reads rubbish from one
 * that is not. So its file is read, and its buffers go into ours, each at the start of a page.
 */
import { type FileHandle, open, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import ort from "onnxruntime-node";
import { sessionOptions } from "../engine/session-options.ts";
import { type GraphWeights, graphFileName, graphVariants } from "./graph-files.ts";
import { pageBytes, weightsFileName } from "./onnx-graph.ts";
import { externalDataOf, withExternalData } from "./onnx-proto.ts";

/**
 * Adds packed weights to an import that nobody uses yet.
 * @param folder holds all graphs and `weights.bin`
 * @param weights those that it has graphs over
 */
export async function prepackWeights(
  folder: string,
  weights: readonly GraphWeights[],
): Promise<void> {
  const entries = new Map<string, Entry[]>();
  for (const one of weights) {
    const smallest = graphFileName({ adapters: "none", keyValues: "f32", weights: one });
    for (const [name, moved] of await addPacked(folder, smallest, entries)) {
      entries.set(name, moved);
    }
  }
  for (const variant of weights.flatMap(graphVariants)) {
    const path = join(folder, graphFileName(variant));
    await writeFile(path, withExternalData(await readFile(path), entries), { flush: true });
  }
}

/** Adds what one graph has the runtime pack, but for what is `known`; returns by weight the entries that name it. */
async function addPacked(
  folder: string,
  graphName: string,
  known: ReadonlyMap<string, Entry[]>,
): Promise<Map<string, Entry[]>> {
  const [graph, buffers] = [join(folder, "packed.onnx"), join(folder, packedFileName)];
  await writePacked(join(folder, graphName), graph);
  const source = await open(buffers, "r");
  const target = await open(join(folder, weightsFileName), "r+");
  try {
    const weights = externalDataOf(await readFile(graph));
    const unknown = [...weights].filter(([name]) => !known.has(name));
    const entries = await moveBuffers(new Map(unknown), { source, target });
    await target.sync();
    return entries;
  } finally {
    await Promise.all([source.close(), target.close()]);
    await Promise.all([rm(graph, { force: true }), rm(buffers, { force: true })]);
  }
}

/** Has the runtime write the graph once more, with the weights as it packs them. */
async function writePacked(graphPath: string, packedPath: string): Promise<void> {
  const options = await sessionOptions(1);
  const session = await ort.InferenceSession.create(graphPath, {
    ...options,
    optimizedModelFilePath: packedPath,
    extra: {
      session: {
        ...options.extra.session,
        optimized_model_external_initializers_file_name: packedFileName,
        optimized_model_external_initializers_min_size_in_bytes: "1",
        save_external_prepacked_constant_initializers: "1",
      },
    },
  });
  await session.release();
}

/** Copies all packed buffers to the end of `target`; returns by weight the entries that name them there. */
async function moveBuffers(
  weights: ReadonlyMap<string, Entry[]>,
  { source, target }: { source: FileHandle; target: FileHandle },
): Promise<Map<string, Entry[]>> {
  let end = (await target.stat()).size;
  const moved = new Map<string, Entry[]>();
  for (const [name, entries] of weights) {
    for (const { key, value } of entries) {
      if (!key.startsWith("prepacked_")) continue;
      // The kernel and a hash of what it packed, then offset, length and checksum of each of its buffers.
      const [kernel, ...places] = value.split("|");
      const movedPlaces: string[] = [];
      for (const place of places) {
        const [offset = 0, length = 0] = place.split(";").map(Number);
        end = Math.ceil(end / pageBytes) * pageBytes;
        await copyBytes({ source, target }, { from: offset, to: end, length });
        movedPlaces.push(`${end};${length};0`);
        end += length;
      }
      const entry = { key, value: [kernel, ...movedPlaces].join("|") };
      moved.set(name, [...(moved.get(name) ?? []), entry]);
    }
  }
  return moved;
}

async function copyBytes(
  { source, target }: { source: FileHandle; target: FileHandle },
  { from, to, length }: { from: number; to: number; length: number },
): Promise<void> {
  const buffer = new Uint8Array(Math.min(length, copyBytesMax));
  for (let done = 0; done < length; ) {
    const wanted = Math.min(buffer.length, length - done);
    const { bytesRead } = await source.read(buffer, 0, wanted, from + done);
    if (bytesRead === 0) throw new Error("the runtime wrote fewer packed bytes than it says");
    // A disk about to be full takes a part, and says so only when it is given the rest.
    done += (await target.write(buffer, 0, bytesRead, to + done)).bytesWritten;
  }
}

type Entry = { key: string; value: string };

const packedFileName = "packed.bin";
const copyBytesMax = 1 << 22;
