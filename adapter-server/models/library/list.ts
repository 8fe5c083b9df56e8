/** What the library of a data folder holds. */
import { type KeptEncoder, keptEncoders } from "../../encoder/encoder-library.ts";
import { holdersOf } from "./holds.ts";
import { originName } from "./inspect.ts";
import { listImports } from "./manifest.ts";
import { listPulled, pulledName, type UnfinishedSource } from "./pulled.ts";

export type ListedImport = {
  digest: string;
  /** What it was made of; unknown for one without a manifest. */
  source: string | undefined;
  format: string | undefined;
  parameters: number | undefined;
  sizeBytes: number;
  importedAt: string | undefined;
  /** Processes that serve it now. */
  usedBy: string[];
};

export type ListedSource = {
  name: string;
  repo: string;
  commit: string;
  revisions: string[];
  sizeBytes: number;
  licence: string | undefined;
  pulledAt: string;
  folder: string;
};

/** An encoder that was copied from a folder. */
export type ListedEncoder = Omit<KeptEncoder, "folder"> & {
  /** Processes that serve it now. */
  usedBy: string[];
};

export type Library = {
  imports: ListedImport[];
  encoders: ListedEncoder[];
  sources: ListedSource[];
  unfinished: UnfinishedSource[];
};

export async function listModels(dataDir: string): Promise<Library> {
  const imports = await listImports(dataDir);
  const { complete, unfinished } = await listPulled(dataDir);
  return {
    imports: await Promise.all(
      imports.map(async ({ digest, folder, sizeBytes, manifest }) => ({
        digest,
        source: manifest && originName(manifest.origin),
        format: manifest?.format,
        parameters: manifest?.parameters,
        sizeBytes,
        importedAt: manifest?.importedAt,
        usedBy: await holdersOf(folder),
      })),
    ),
    encoders: await Promise.all(
      (await keptEncoders(dataDir)).map(async ({ folder, ...encoder }) => ({
        ...encoder,
        usedBy: await holdersOf(folder),
      })),
    ),
    sources: complete.map((source) => ({
      name: pulledName(source),
      repo: source.repo,
      commit: source.commit,
      revisions: source.revisions,
      sizeBytes: source.sizeBytes,
      licence: source.licence,
      pulledAt: source.pulledAt,
      folder: source.folder,
    })),
    unfinished,
  };
}
