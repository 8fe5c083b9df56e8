/** `manifest.json` beside an imported graph: what it was made from, when, and what its files must be. */
import { readdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { z } from "zod";
import { modelFileName } from "../graph-files.ts";
import { type ImportedModel, importerVersion, modelFormats } from "../import-model.ts";
import {
  type FileFacts,
  fileFacts,
  hashFile,
  readJsonFile,
  sha256Text,
  writeJsonAtomically,
} from "./files.ts";
import { isHold } from "./holds.ts";
import type { SourceFacts } from "./source-facts.ts";

/** Where an import came from: a folder or file of this machine, or what was pulled from a hub. */
export type ImportOrigin = z.infer<typeof importOrigin>;
export type Manifest = z.infer<typeof manifest>;

/** An import of the library. Without a manifest it was made by an older version, or was cut off after. */
export type Import = {
  digest: string;
  folder: string;
  sizeBytes: number;
  manifest: Manifest | undefined;
};

/** Writes the manifest of an import that has none; an import's content never changes. */
export async function ensureManifest(
  model: ImportedModel,
  { origin, facts }: { origin: ImportOrigin; facts: SourceFacts | undefined },
): Promise<void> {
  const folder = dirname(model.graphPath);
  const path = join(folder, manifestFileName);
  const known = await readManifest(folder);
  if (known && sameOrigin(known.origin, origin)) return;
  const files = known?.files ?? (await hashFiles(folder));
  const { mtime } = await stat(model.graphPath);
  const { contextLength, layers, hiddenSize, vocabSize } = model.dims;
  const value: Manifest = {
    version: 1,
    importerVersion,
    origin,
    format: model.format,
    baseDigest: model.baseDigest,
    importedAt: known?.importedAt ?? mtime.toISOString(),
    family: model.shape.family,
    architecture: facts?.architecture ?? known?.architecture,
    parameters: facts?.parameters ?? known?.parameters,
    contextLength,
    layers,
    hiddenSize,
    vocabSize,
    files,
  };
  await writeJsonAtomically(path, value);
}

function readManifest(folder: string): Promise<Manifest | undefined> {
  return readJsonFile(join(folder, manifestFileName), manifest);
}

/** All finished imports, those that were made last first. */
export async function listImports(dataDir: string): Promise<Import[]> {
  const parent = modelsFolder(dataDir);
  const names = await readdir(parent).catch(() => []);
  const found = await Promise.all(
    names
      .filter((name) => sha256Text.safeParse(name).success)
      .map((name) => readImport(join(parent, name))),
  );
  return found
    .filter((one) => one !== undefined)
    .sort((a, b) => (b.manifest?.importedAt ?? "").localeCompare(a.manifest?.importedAt ?? ""));
}

export function modelsFolder(dataDir: string): string {
  return join(dataDir, "models");
}

/** The files that make up an import. */
export async function importFiles(folder: string): Promise<string[]> {
  const names = await readdir(folder);
  return names.filter(
    (name) => name !== manifestFileName && !isHold(name) && !name.endsWith(".tmp"),
  );
}

async function readImport(folder: string): Promise<Import | undefined> {
  const names: string[] = await importFiles(folder).catch(() => []);
  if (!names.includes(modelFileName)) return undefined;
  const sizes = await Promise.all(names.map((name) => stat(join(folder, name))));
  return {
    digest: basename(folder),
    folder,
    sizeBytes: sizes.reduce((sum, { size }) => sum + size, 0),
    manifest: await readManifest(folder),
  };
}

async function hashFiles(folder: string): Promise<FileFacts[]> {
  const facts: FileFacts[] = [];
  for (const name of (await importFiles(folder)).sort()) {
    const { sizeBytes, sha256 } = await hashFile(join(folder, name));
    facts.push({ name, sizeBytes, sha256 });
  }
  return facts;
}

function sameOrigin(one: ImportOrigin, other: ImportOrigin): boolean {
  return JSON.stringify(importOrigin.parse(one)) === JSON.stringify(importOrigin.parse(other));
}

const manifestFileName = "manifest.json";

const importOrigin = z.discriminatedUnion("type", [
  z.object({ type: z.literal("path"), path: z.string() }),
  z.object({
    type: z.literal("hub"),
    repo: z.string(),
    commit: z.string(),
    file: z.string().optional(),
    path: z.string(),
  }),
]);

const manifest = z.object({
  version: z.literal(1),
  /** Absent in those of the first importers. */
  importerVersion: z.int().optional(),
  origin: importOrigin,
  format: z.enum(modelFormats),
  baseDigest: sha256Text,
  importedAt: z.string(),
  family: z.string(),
  architecture: z.string().optional(),
  /** Stored values of the checkpoint. */
  parameters: z.number().optional(),
  contextLength: z.number(),
  layers: z.number(),
  hiddenSize: z.number(),
  vocabSize: z.number(),
  files: z.array(fileFacts),
});
