/** Imports that earlier versions made, which this one never looks for. */
import { dirname } from "node:path";
import { type ImportedModel, importerVersion } from "../import-model.ts";
import { removeFolder } from "./files.ts";
import { holdersOf } from "./holds.ts";
import { type Import, listImports } from "./manifest.ts";

/**
 * Removes what earlier versions made of the same checkpoint in the same format: it only takes room. What a server
 * still serves stays.
 */
export async function removeOutdated(model: ImportedModel, dataDir: string): Promise<void> {
  for (const one of await listImports(dataDir)) {
    if (!isOutdated(one, model) || (await holdersOf(one.folder)).length > 0) continue;
    // Whoever cannot remove it, because the disk cannot be written say, is served all the same.
    await removeFolder(one.folder).catch(() => {});
  }
}

function isOutdated({ folder, manifest }: Import, model: ImportedModel): boolean {
  if (!manifest || folder === dirname(model.graphPath)) return false;
  return (
    manifest.baseDigest === model.baseDigest &&
    manifest.format === model.format &&
    (manifest.importerVersion ?? 0) < importerVersion
  );
}
