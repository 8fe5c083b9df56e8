/** Imports a model into the library of a data folder, or opens one that a server is to use. */
import { stat } from "node:fs/promises";
import { basename, dirname, resolve } from "node:path";
import { HubError } from "../../../sdk/protocol/errors.ts";
import { asStorageError } from "../disk-full.ts";
import { type SingleFormat, singleFormats } from "../graph-files.ts";
import {
  type ImportedModel,
  importModel,
  type ModelFormat,
  modelFormats,
} from "../import-model.ts";
import { holdFolder } from "./holds.ts";
import { LibraryError } from "./library-error.ts";
import { ensureManifest, type ImportOrigin, modelsFolder } from "./manifest.ts";
import { removeOutdated } from "./outdated.ts";
import { requirePulled } from "./pulled.ts";
import {
  checkDisk,
  importDiskBytes,
  importWarning,
  type Machine,
  memoryWarning,
  thisMachine,
} from "./room.ts";
import { readSourceFacts, type SourceFacts } from "./source-facts.ts";
import { isHubRef } from "./source-ref.ts";

export type ImportRequest = {
  /** A folder, a GGUF file, or `hf:owner/name@revision` of what was pulled before. */
  source: string;
  format: ModelFormat;
  /** Weights beside the others, for steps in which a single sequence decodes. */
  singleStream?: SingleFormat | undefined;
  dataDir: string;
  /** Although it does not fit into memory. */
  force?: boolean | undefined;
  onProgress?: ((done: number) => void) | undefined;
  machine?: Machine | undefined;
};

export type LibraryImport = { model: ImportedModel; digest: string; origin: ImportOrigin };

/**
 * Imports a model, or finds it imported already. Nothing is downloaded.
 * @throws LibraryError when the source is not there, or the machine has no room for the import
 * @throws HubError `unsupported_model` that names what we do not compute
 */
export async function importToLibrary(request: ImportRequest): Promise<LibraryImport> {
  const { format, singleStream, dataDir, force = false, machine = thisMachine() } = request;
  const located = await locateSource(request.source, dataDir);
  const facts = await readSourceFacts(located.importPath);
  const tooLarge = memoryWarning(facts, format, machine);
  if (tooLarge && !force) {
    throw new LibraryError("too_large_for_memory", tooLarge.message, { hint: tooLarge.hint });
  }
  const folder = modelsFolder(dataDir);
  const bytes = importDiskBytes(facts, format, singleStream);
  await checkDisk(bytes, { folder, what: "The import", machine });
  return runImport(located, facts, request);
}

/**
 * The import that a server serves, marked as in use until it is released. Too little memory is told and
 * tried all the same: the weights are mapped, and an operator may know better.
 * @throws HubError `unsupported_model` that says what is missing or not computed
 */
export async function openForServing(
  request: ImportRequest & { onWarning: (message: string) => void },
): Promise<LibraryImport & { release: () => Promise<void> }> {
  const located = await locateSource(request.source, request.dataDir).catch((error: unknown) => {
    if (!(error instanceof LibraryError)) throw error;
    // A server's operators know the errors of its table.
    const message = [error.message, error.hint].filter((text) => text !== undefined).join(" ");
    throw new HubError("unsupported_model", message, { cause: error });
  });
  const facts = await readSourceFacts(located.importPath).catch(() => undefined);
  const machine = request.machine ?? thisMachine();
  const tooLarge = facts && memoryWarning(facts, request.format, machine);
  if (tooLarge) request.onWarning(tooLarge.message);
  for (;;) {
    const imported = await runImport(located, facts, request);
    const folder = dirname(imported.model.graphPath);
    try {
      const release = await holdFolder(folder);
      const measuredElsewhere = await importWarning(folder, machine);
      if (measuredElsewhere && !tooLarge) request.onWarning(measuredElsewhere);
      return { ...imported, release };
    } catch (error) {
      // Somebody removed the import before it was marked: it is made again.
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
  }
}

export type LocatedSource = {
  /** What the importer reads. */
  importPath: string;
  origin: ImportOrigin;
  /** Names under which people train adapters on it. */
  names: string[];
};

/**
 * Finds a source on this machine.
 * @throws LibraryError `model_not_found` that says what to do
 */
export async function locateSource(source: string, dataDir: string): Promise<LocatedSource> {
  if (isHubRef(source)) {
    const { repo, commit, file, importPath } = await requirePulled(dataDir, source);
    const origin = { type: "hub" as const, repo, commit, path: importPath, ...(file && { file }) };
    return { importPath, origin, names: [repo, basename(repo)] };
  }
  const importPath = resolve(source);
  const found = await stat(importPath).catch(() => undefined);
  if (found?.isDirectory() || (found?.isFile() && importPath.toLowerCase().endsWith(".gguf"))) {
    return { importPath, origin: { type: "path", path: importPath }, names: [] };
  }
  const hint = /^[\w.-]+\/[\w.-]+(@[\w./-]+)?$/.test(source)
    ? `A model of the Hugging Face hub is written hf:${source}, and pulled before it is imported.`
    : "Give a folder with config.json, safetensors and tokenizer.json, or a .gguf file.";
  throw new LibraryError(
    "model_not_found",
    found ? `${source} is neither a folder nor a GGUF file.` : `There is no folder ${source}.`,
    { hint },
  );
}

/** @throws LibraryError `invalid_reference` that lists the formats */
export function parseFormat(text: string): ModelFormat {
  const format = modelFormats.find((known) => known === text);
  if (format) return format;
  throw new LibraryError("invalid_reference", `There is no format '${text}'.`, {
    hint: `Formats are ${modelFormats.join(", ")}.`,
  });
}

/** @throws LibraryError `invalid_reference` that lists the formats */
export function parseSingleStream(text: string): SingleFormat {
  const format = singleFormats.find((known) => known === text);
  if (format) return format;
  throw new LibraryError("invalid_reference", `Single streams have no format '${text}'.`, {
    hint: `Theirs are ${singleFormats.join(", ")}.`,
  });
}

async function runImport(
  { importPath, origin, names }: LocatedSource,
  facts: SourceFacts | undefined,
  { format, singleStream, dataDir, onProgress, machine = thisMachine() }: ImportRequest,
): Promise<LibraryImport> {
  const model = await importModel({
    folder: importPath,
    format,
    singleStream,
    names,
    cacheDir: modelsFolder(dataDir),
    memoryBytesMax: machine.memoryBytes,
    ...(onProgress && { onProgress }),
  });
  await ensureManifest(model, { origin, facts }).catch(async (error: NodeJS.ErrnoException) => {
    // An import on a read-only disk serves as well without one.
    if (["EROFS", "EACCES"].includes(error.code ?? "")) return;
    throw await asStorageError(error, dirname(model.graphPath));
  });
  await removeOutdated(model, dataDir);
  return { model, digest: basename(dirname(model.graphPath)), origin };
}
