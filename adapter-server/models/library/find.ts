/** What a reference at the command line means: an import, something that was pulled, or a folder. */
import { resolve } from "node:path";
import { type KeptEncoder, keptEncoders } from "../../encoder/encoder-library.ts";
import { type LocatedSource, locateSource } from "./import.ts";
import { LibraryError } from "./library-error.ts";
import { type Import, listImports } from "./manifest.ts";
import { type PulledSource, requirePulled } from "./pulled.ts";
import { isHubRef } from "./source-ref.ts";

export type Found =
  | { type: "import"; import: Import }
  | { type: "pulled"; source: PulledSource; imports: Import[] }
  | { type: "path"; located: LocatedSource; imports: Import[] };

/**
 * A digest or the first digits of one, `hf:owner/name@revision`, or a path.
 * @throws LibraryError `model_not_found`, `ambiguous_name`
 */
export async function findModel(text: string, dataDir: string): Promise<Found> {
  const imports = await listImports(dataDir);
  if (isHubRef(text)) {
    const source = await requirePulled(dataDir, text);
    return { type: "pulled", source, imports: imports.filter(isFrom(source.importPath)) };
  }
  if (/^[0-9a-f]{4,64}$/.test(text)) {
    const found = imports.filter(({ digest }) => digest.startsWith(text));
    const [first, second] = found;
    if (second) {
      throw new LibraryError("ambiguous_name", `'${text}' begins ${found.length} digests.`, {
        hint: "Write more of the digest; 'switchyard models list' shows them.",
      });
    }
    if (first) return { type: "import", import: first };
  }
  const located = await locateSource(text, dataDir).catch((error: unknown) => {
    if (!(error instanceof LibraryError) || error.code !== "model_not_found") throw error;
    throw new LibraryError("model_not_found", `Nothing here is called '${text}'.`, {
      hint: "Write a digest or a source as 'switchyard models list' shows them, or the path of a folder.",
      cause: error,
    });
  });
  return { type: "path", located, imports: imports.filter(isFrom(resolve(text))) };
}

/**
 * An encoder by its digest or the first digits of it; absent where none is meant.
 * @throws LibraryError `ambiguous_name`
 */
export async function findEncoder(text: string, dataDir: string): Promise<KeptEncoder | undefined> {
  if (!/^[0-9a-f]{4,64}$/.test(text)) return undefined;
  const found = (await keptEncoders(dataDir)).filter(({ digest }) => digest.startsWith(text));
  const imports = await listImports(dataDir);
  const digests = found.length + imports.filter(({ digest }) => digest.startsWith(text)).length;
  if (found.length > 0 && digests > 1) {
    throw new LibraryError("ambiguous_name", `'${text}' begins ${digests} digests.`, {
      hint: "Write more of the digest; 'switchyard models list' shows them.",
    });
  }
  return found[0];
}

function isFrom(path: string): (one: Import) => boolean {
  return ({ manifest }) => manifest?.origin.path === path;
}
