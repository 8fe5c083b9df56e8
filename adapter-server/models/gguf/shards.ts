/**
 * The files of a model. Mostly it is one; llama.cpp's `gguf-split` cuts large models into several, of which the
 * first holds the metadata.
 */
import { type FileHandle, open } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { HubError } from "../../../sdk/protocol/errors.ts";
import { type GgufHeader, type GgufValue, parseGgufHeader } from "./header.ts";

export type GgufShard = { path: string; file: FileHandle; header: GgufHeader };

/**
 * Opens a file, and those that it is the first of.
 * @returns in their order; whoever asked closes them
 * @throws HubError `unsupported_model` that names the file which is missing or belongs elsewhere
 */
export async function openShards(path: string): Promise<GgufShard[]> {
  const shards: GgufShard[] = [];
  try {
    const first = await openShard(path);
    shards.push(first);
    const count = numberOf(first.header.metadata, "split.count") ?? 1;
    for (const next of nextPaths(path, { count, header: first.header })) {
      const shard = await openShard(next).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== "ENOENT") throw error;
        return refuse(`The GGUF file '${basename(path)}' needs '${basename(next)}' beside it.`);
      });
      shards.push(shard);
      checkPlace(shard, { no: shards.length - 1, count });
    }
    checkTensors(shards);
    return shards;
  } catch (error) {
    await closeShards(shards);
    throw error;
  }
}

export async function closeShards(shards: readonly GgufShard[]): Promise<void> {
  await Promise.all(shards.map(({ file }) => file.close()));
}

async function openShard(path: string): Promise<GgufShard> {
  const file = await open(path, "r");
  try {
    return { path, file, header: await readHeader(file) };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** The header's length is nowhere: a first part is read, and twice as much while that is too little. */
async function readHeader(file: FileHandle): Promise<GgufHeader> {
  const { size } = await file.stat();
  for (let length = 1 << 20; ; length *= 2) {
    const start = new Uint8Array(Math.min(length, size));
    await readAll(file, start, 0);
    const header = parseGgufHeader(start, size);
    if (header) return header;
    if (length >= headerBytesMax) {
      refuse(`The GGUF file's header is longer than ${headerBytesMax} bytes.`);
    }
  }
}

/** Fills `into` with the bytes from `position` on. */
export async function readAll(file: FileHandle, into: Uint8Array, position: number): Promise<void> {
  let done = 0;
  while (done < into.length) {
    const wanted = Math.min(into.length - done, readBytesMax);
    const { bytesRead } = await file.read(into, done, wanted, position + done);
    if (bytesRead === 0) refuse("The GGUF file became shorter while it was read.");
    done += bytesRead;
  }
}

function nextPaths(
  path: string,
  { count, header }: { count: number; header: GgufHeader },
): string[] {
  if (count === 1) return [];
  const name = basename(path);
  const [, stem, no, of] = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/i.exec(name) ?? [];
  if (Number(of) !== count) {
    refuse(`The GGUF file '${name}' is one of ${count}, and its name does not say so.`);
  }
  if (Number(no) !== 1 || numberOf(header.metadata, "split.no") !== 0) {
    refuse(
      `The GGUF file '${name}' is not the first of ${count}; give '${stem}-00001-of-${of}.gguf'.`,
    );
  }
  return Array.from({ length: count - 1 }, (_, index) =>
    join(dirname(path), `${stem}-${String(index + 2).padStart(5, "0")}-of-${of}.gguf`),
  );
}

function checkPlace({ path, header }: GgufShard, place: { no: number; count: number }): void {
  const [no, count] = ["no", "count"].map((key) => numberOf(header.metadata, `split.${key}`));
  if (no === place.no && count === place.count) return;
  refuse(`The GGUF file '${basename(path)}' is not number ${place.no + 1} of ${place.count}.`);
}

function checkTensors(shards: readonly GgufShard[]): void {
  const names = new Set<string>();
  for (const { header } of shards) {
    for (const name of header.tensors.keys()) {
      if (names.has(name)) refuse(`Tensor '${name}' is in two GGUF files.`);
      names.add(name);
    }
  }
  const told = shards[0] && numberOf(shards[0].header.metadata, "split.tensors.count");
  if (told !== undefined && told !== names.size) {
    refuse(`The GGUF files hold ${names.size} tensors together; the first tells of ${told}.`);
  }
}

function numberOf(metadata: ReadonlyMap<string, GgufValue>, key: string): number | undefined {
  const value = metadata.get(key);
  return typeof value === "number" ? value : undefined;
}

function refuse(message: string): never {
  throw new HubError("unsupported_model", message);
}

/** One read call takes at most 2 GiB on Linux. */
const readBytesMax = 1 << 30;
/** Vocabulary and merges of 262,144 tokens take some 12 MB. */
const headerBytesMax = 64 << 20;
