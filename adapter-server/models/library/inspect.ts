/** Everything that is known of one model without running it. */

import { type QuantizationReport, readReport } from "../quantization/report.ts";
import { exists } from "./files.ts";
import { findModel } from "./find.ts";
import { readGraphGroups } from "./graph-facts.ts";
import { holdersOf } from "./holds.ts";
import type { Import, Manifest } from "./manifest.ts";
import { pulledName } from "./pulled.ts";
import { readSourceFacts, type SourceFacts } from "./source-facts.ts";
import type { TensorGroup } from "./tensor-groups.ts";

export type ImportFacts = {
  digest: string;
  folder: string;
  sizeBytes: number;
  format: string | undefined;
  baseDigest: string | undefined;
  importedAt: string | undefined;
  groups: TensorGroup[];
  /** Why the weights are stored so, and what that costs; undefined for float32, and for older imports. */
  quantization: QuantizationReport | undefined;
  /** Processes that serve it now. */
  usedBy: string[];
};

export type ModelFacts = {
  name: string;
  /** The path that an import reads; absent when it is no longer there. */
  source: string | undefined;
  architecture: string | undefined;
  parameters: number | undefined;
  contextLength: number | undefined;
  layers: number | undefined;
  hiddenSize: number | undefined;
  vocabSize: number | undefined;
  tokenizer: SourceFacts["tokenizer"];
  hasChatTemplate: boolean | undefined;
  licence: string | undefined;
  /** How the source stores its weights; absent with the source. */
  stored: TensorGroup[] | undefined;
  imports: ImportFacts[];
};

/** @throws LibraryError when there is no such model; HubError for a folder that is none */
export async function inspectModel(text: string, dataDir: string): Promise<ModelFacts> {
  const found = await findModel(text, dataDir);
  switch (found.type) {
    case "import": {
      const { manifest } = found.import;
      const path = manifest?.origin.path;
      const facts = path === undefined ? undefined : await factsIfThere(path);
      const name = manifest ? originName(manifest.origin) : "unknown";
      return describe(name, facts && path, { facts, imports: [found.import] });
    }
    case "pulled": {
      const { source, imports } = found;
      const facts = await readSourceFacts(source.importPath);
      const described = await describe(pulledName(source), source.importPath, { facts, imports });
      return { ...described, licence: source.licence ?? described.licence };
    }
    case "path": {
      const { importPath } = found.located;
      return describe(importPath, importPath, {
        facts: await readSourceFacts(importPath),
        imports: found.imports,
      });
    }
    default:
      return found satisfies never;
  }
}

/** How people write where an import came from. */
export function originName(origin: Manifest["origin"]): string {
  return origin.type === "path" ? origin.path : pulledName(origin);
}

async function describe(
  name: string,
  source: string | undefined,
  { facts, imports }: { facts: SourceFacts | undefined; imports: readonly Import[] },
): Promise<ModelFacts> {
  const manifest = imports.find((one) => one.manifest)?.manifest;
  return {
    name,
    source,
    architecture: facts?.architecture ?? manifest?.architecture,
    parameters: facts?.parameters ?? manifest?.parameters,
    contextLength: facts?.contextLength ?? manifest?.contextLength,
    layers: facts?.layers ?? manifest?.layers,
    hiddenSize: facts?.hiddenSize ?? manifest?.hiddenSize,
    vocabSize: facts?.vocabSize ?? manifest?.vocabSize,
    tokenizer: facts?.tokenizer,
    hasChatTemplate: facts?.hasChatTemplate,
    licence: facts?.licence,
    stored: facts?.groups,
    imports: await Promise.all(imports.map(describeImport)),
  };
}

async function describeImport({
  digest,
  folder,
  sizeBytes,
  manifest,
}: Import): Promise<ImportFacts> {
  return {
    digest,
    folder,
    sizeBytes,
    format: manifest?.format,
    baseDigest: manifest?.baseDigest,
    importedAt: manifest?.importedAt,
    groups: await readGraphGroups(folder),
    quantization: await readReport(folder).catch(() => undefined),
    usedBy: await holdersOf(folder),
  };
}

async function factsIfThere(path: string): Promise<SourceFacts | undefined> {
  return (await exists(path)) ? readSourceFacts(path).catch(() => undefined) : undefined;
}
