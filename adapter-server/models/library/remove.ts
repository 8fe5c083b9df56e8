/** Takes models out of the library: imports, and what was pulled. Folders of the user's stay. */
import { join } from "node:path";
import { folderBytes, removeFolder } from "./files.ts";
import { findEncoder, findModel } from "./find.ts";
import { checkLock, holdersOf } from "./holds.ts";
import { LibraryError } from "./library-error.ts";
import type { Import } from "./manifest.ts";
import { findPulled, listPulled, pulledName, pullLockName } from "./pulled.ts";
import { isHubRef, parseHubRef } from "./source-ref.ts";

/** What a removal would take, to be shown before it is done. */
export type Removal = { what: string; folder: string; sizeBytes: number }[];

/**
 * A source goes with the imports that were made of it, which cannot serve without its tokenizer.
 * @throws LibraryError `in_use` while a running server uses one of them
 */
export async function planRemoval(text: string, dataDir: string): Promise<Removal> {
  const unfinished = await unfinishedPulls(text, dataDir);
  if (unfinished.length > 0) return unfinished;
  const encoder = await findEncoder(text, dataDir);
  if (encoder) {
    const { digest, folder, sizeBytes } = encoder;
    const what = `encoder ${digest.slice(0, 12)}`;
    const holders = await holdersOf(folder);
    if (holders.length > 0) refuse(what, holders);
    return [{ what, folder, sizeBytes }];
  }
  const found = await findModel(text, dataDir);
  const imports = found.type === "import" ? [found.import] : found.imports;
  for (const one of imports) await refuseInUse(one);
  const removal = imports.map(({ digest, folder, sizeBytes, manifest }) => ({
    what: `import ${digest.slice(0, 12)}${manifest ? ` (${manifest.format})` : ""}`,
    folder,
    sizeBytes,
  }));
  if (found.type === "pulled") {
    const { source } = found;
    const { folder } = source;
    removal.push({ what: pulledName(source), folder, sizeBytes: await folderBytes(folder) });
  }
  if (removal.length > 0) return removal;
  throw new LibraryError("model_not_found", `Nothing was imported from ${text}.`, {
    hint: "A folder of your own is never removed.",
  });
}

/** @throws LibraryError `in_use` when a server has begun to use one meanwhile */
export async function removeModels(removal: Removal): Promise<void> {
  for (const { folder, what } of removal) {
    const holders = await holdersOf(folder);
    if (holders.length > 0) refuse(what, holders);
    await removeFolder(folder);
  }
}

/** Begun pulls of a repository of which nothing is complete under this reference. */
async function unfinishedPulls(text: string, dataDir: string): Promise<Removal> {
  if (!isHubRef(text)) return [];
  const ref = parseHubRef(text);
  if (await findPulled(dataDir, ref)) return [];
  const { unfinished } = await listPulled(dataDir);
  const ofRepo = unfinished.filter(({ repo }) => repo === ref.repo);
  for (const { folder } of ofRepo)
    await checkLock(join(folder, pullLockName), `The pull of ${text}`);
  return ofRepo.map(({ folder, sizeBytes }) => ({
    what: `unfinished pull of ${ref.repo}`,
    folder,
    sizeBytes,
  }));
}

async function refuseInUse({ digest, folder }: Import): Promise<void> {
  const holders = await holdersOf(folder);
  if (holders.length > 0) refuse(`import ${digest.slice(0, 12)}`, holders);
}

function refuse(what: string, holders: readonly string[]): never {
  throw new LibraryError("in_use", `${what} is served by ${holders.join(", ")}.`, {
    hint: "Stop that server first.",
  });
}
