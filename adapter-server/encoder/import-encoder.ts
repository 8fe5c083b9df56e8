/** Takes an encoder into the data folder, by content: what is served can no longer change or vanish. */
import { randomUUID } from "node:crypto";
import { cp, mkdir, rename, rm } from "node:fs/promises";
import { dirname, join, relative, resolve } from "node:path";
import type { z } from "zod";
import { HubError } from "../../sdk/protocol/errors.ts";
import { asStorageError } from "../models/disk-full.ts";
import { exists, writeJsonAtomically } from "../models/library/files.ts";
import { type EncoderSource, findEncoderGraph, readEncoderFolder } from "./encoder-folder.ts";
import { type encoderManifest, encoderManifestName, encodersFolder } from "./encoder-library.ts";

export type ImportedEncoder = EncoderSource & { folder: string };

/** Whether a folder holds an encoder and no checkpoint that the engine decodes with. */
export async function isEncoderFolder(folder: string): Promise<boolean> {
  return (
    (await findEncoderGraph(folder)) !== undefined && (await exists(join(folder, "modules.json")))
  );
}

/**
 * Copies the encoder's files, or finds them copied. They appear by a rename, and are read and checked where they
 * are served from.
 * @throws HubError `unsupported_model`, `storage_full`
 */
export async function importEncoder(
  source: string,
  { dataDir, bytesMax = graphBytesMax }: { dataDir: string; bytesMax?: number },
): Promise<ImportedEncoder> {
  const from = resolve(source);
  const read = await readEncoderFolder(from, bytesMax);
  const folder = join(encodersFolder(dataDir), read.digest);
  if (!(await exists(folder))) await copyFiles(read.files, { from, folder });
  const copied = await readEncoderFolder(folder, bytesMax);
  if (copied.digest === read.digest) return { ...copied, folder };
  throw new HubError("unsupported_model", `The files of ${source} changed while they were read.`);
}

/** What one protobuf message can have. */
const graphBytesMax = 2 ** 31 - 1;

async function copyFiles(
  files: readonly string[],
  { from, folder }: { from: string; folder: string },
): Promise<void> {
  const temporary = `${folder}.${randomUUID()}.tmp`;
  try {
    for (const file of files) {
      const target = join(temporary, relative(from, file));
      await mkdir(dirname(target), { recursive: true });
      await cp(file, target, { dereference: true });
    }
    const manifest: z.infer<typeof encoderManifest> = {
      source: from,
      importedAt: new Date().toISOString(),
    };
    await writeJsonAtomically(join(temporary, encoderManifestName), manifest);
    await rename(temporary, folder);
  } catch (error) {
    const reason = await asStorageError(error, dirname(folder));
    await rm(temporary, { recursive: true, force: true });
    // Another process may have finished the same import first.
    if (!(await exists(folder))) throw reason;
  }
}
