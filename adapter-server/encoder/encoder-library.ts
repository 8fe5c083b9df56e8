/** The encoders that a data folder holds. */
import { readdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { z } from "zod";
import { folderBytes, readJsonFile, sha256Text } from "../models/library/files.ts";
import { readEncoderFolder } from "./encoder-folder.ts";

export type KeptEncoder = {
  /** SHA-256 over what decides its numbers and its tokens; its folder is called so. */
  digest: string;
  folder: string;
  sizeBytes: number;
  /** The folder that it was copied from, and when; unknown of older ones. */
  source: string | undefined;
  importedAt: string | undefined;
};

export function encodersFolder(dataDir: string): string {
  return join(resolve(dataDir), "encoders");
}

export async function keptEncoders(dataDir: string): Promise<KeptEncoder[]> {
  const names: string[] = await readdir(encodersFolder(dataDir)).catch(() => []);
  const digests = names.filter((name) => sha256Text.safeParse(name).success).sort();
  return Promise.all(
    digests.map(async (digest) => {
      const folder = join(encodersFolder(dataDir), digest);
      const manifest = await readJsonFile(join(folder, encoderManifestName), encoderManifest);
      return {
        digest,
        folder,
        sizeBytes: await folderBytes(folder),
        source: manifest?.source,
        importedAt: manifest?.importedAt,
      };
    }),
  );
}

/** What is wrong with an encoder, one sentence each; it is read whole. */
export async function encoderProblems({ digest, folder }: KeptEncoder): Promise<string[]> {
  try {
    const read = await readEncoderFolder(folder, Number.POSITIVE_INFINITY);
    return read.digest === digest ? [] : ["Its files have other bytes than they had."];
  } catch (error) {
    return [error instanceof Error ? error.message : String(error)];
  }
}

export const encoderManifest = z.object({ source: z.string(), importedAt: z.string() });
export const encoderManifestName = "manifest.json";
