/** Which commit a revision is, and which of its files an import needs. */
import { z } from "zod";
import { LibraryError } from "../library/library-error.ts";
import { formatHubRef, ggufParts, type HubRef, isSafePath } from "../library/source-ref.ts";
import type { HubConnection } from "./hub-connection.ts";

/** A file of the repository and what its bytes must hash to. */
export type RepoFile = {
  name: string;
  sizeBytes: number;
  /** Large files are known by SHA-256, all others by the SHA-1 that git gives them. */
  digest: { sha256: string } | { gitSha1: string };
};

export type RepoCommit = {
  commit: string;
  files: RepoFile[];
  gated: boolean;
  licence: string | undefined;
  /** How many numbers its safetensors hold, where the hub says so. */
  parameters: number | undefined;
};

/**
 * Asks the hub what a revision is at this moment.
 * @throws PassingFailure; LibraryError when there is none, or the answer is not what a hub says
 */
export async function resolveRevision(connection: HubConnection, ref: HubRef): Promise<RepoCommit> {
  const what = formatHubRef({ ...ref, file: undefined });
  const path = `/api/models/${ref.repo}/revision/${encodeURIComponent(ref.revision)}?blobs=true`;
  const parsed = modelInfo.safeParse(await connection.json(path, { what }));
  if (!parsed.success) {
    const field = parsed.error.issues[0]?.path.join(".") ?? "";
    throw new LibraryError("hub_failed", `The hub's answer about ${what} is wrong at '${field}'.`, {
      hint: "HF_ENDPOINT may point at something that is no hub.",
    });
  }
  const { sha, siblings, gated, cardData, safetensors } = parsed.data;
  return {
    commit: sha,
    gated: gated !== false && gated != null,
    licence: typeof cardData?.license === "string" ? cardData.license.slice(0, 64) : undefined,
    parameters: safetensors?.total ?? undefined,
    files: siblings.flatMap(({ rfilename: name, size, blobId, lfs }) => {
      const sizeBytes = lfs?.size ?? size;
      const digest = lfs
        ? { sha256: lfs.sha256 }
        : blobId == null
          ? undefined
          : { gitSha1: blobId };
      return sizeBytes == null || !digest ? [] : [{ name, sizeBytes, digest }];
    }),
  };
}

/**
 * The files to bring: what an import reads, or one GGUF file, and what `include` adds. Pickles and other
 * files that run code when they are loaded are never brought.
 * @throws LibraryError that says what is missing
 */
export function selectFiles(
  { files }: Pick<RepoCommit, "files">,
  { ref, include = [] }: { ref: HubRef; include?: readonly string[] | undefined },
): RepoFile[] {
  const patterns = include.map(globPattern);
  const parts = new Set(ref.file === undefined ? [] : ggufParts(ref.file));
  const wanted = files.filter(
    ({ name }) =>
      (ref.file === undefined ? isNeeded(name, files) : parts.has(name) || isLicence(name)) ||
      patterns.some((pattern) => pattern.test(name)),
  );
  const selected = wanted.filter(({ name }) => isHarmless(name));
  const what = formatHubRef(ref);
  for (const file of selected) checkFile(file, what);
  checkComplete(selected, { files, ref, what });
  const names = new Set(selected.map(({ name }) => name.toLowerCase()));
  if (names.size !== selected.length) {
    throw new LibraryError("hub_failed", `${what} has two files whose names differ only in case.`);
  }
  // Small ones first: a mistake in them shows before the large ones are waited for.
  return selected.sort((a, b) => a.sizeBytes - b.sizeBytes || a.name.localeCompare(b.name));
}

/** Weights as transformers saves them; where there are none of those names, any safetensors. */
function isNeeded(name: string, files: readonly RepoFile[]): boolean {
  if (smallFiles.has(name) || /^chat_template\.(jinja|json)$/.test(name) || isLicence(name)) {
    return true;
  }
  if (usualWeights.test(name)) return true;
  return anyWeights.test(name) && !files.some((file) => usualWeights.test(file.name));
}

function checkFile({ name, sizeBytes }: RepoFile, what: string): void {
  if (!isSafePath(name)) {
    throw new LibraryError("hub_failed", `${what} names a file in a way that is not accepted.`, {
      hint: `It is ${JSON.stringify(name.slice(0, 100))}. Names may hold letters, digits and ._+=- in at most four folders.`,
    });
  }
  const isWeights = /\.(safetensors|gguf)$/.test(name);
  if (!isWeights && sizeBytes > smallBytesMax) {
    throw new LibraryError("hub_failed", `${name} of ${what} has ${sizeBytes} bytes.`, {
      hint: `Files beside the weights may have at most ${smallBytesMax}.`,
    });
  }
}

function checkComplete(
  selected: readonly RepoFile[],
  { files, ref, what }: { files: readonly RepoFile[]; ref: HubRef; what: string },
): void {
  if (selected.length > filesMax) {
    throw new LibraryError("hub_failed", `${what} has more than ${filesMax} files to bring.`);
  }
  const ggufs = files.filter(({ name }) => name.endsWith(".gguf")).map(({ name }) => name);
  if (ref.file !== undefined) {
    const missing = ggufParts(ref.file).find((part) => !selected.some(({ name }) => name === part));
    if (missing === undefined) return;
    throw new LibraryError("model_not_found", `${ref.repo} has no file '${missing}'.`, {
      hint: ggufs.length > 0 ? `It has ${shown(ggufs)}.` : "It has no GGUF files.",
    });
  }
  if (selected.some(({ name }) => name.endsWith(".safetensors"))) {
    for (const name of ["config.json", "tokenizer.json"]) {
      if (selected.some((file) => file.name === name)) continue;
      throw new LibraryError("model_not_found", `${what} has no ${name}, which an import needs.`);
    }
    return;
  }
  if (ggufs.length > 0) {
    throw new LibraryError("invalid_reference", `${what} has GGUF files; one of them is wanted.`, {
      hint: `Name it with --file: ${shown(ggufs)}.`,
    });
  }
  const pickles = files.some(({ name }) => /\.(bin|pt|pth|ckpt)$/.test(name));
  throw new LibraryError("model_not_found", `${what} has no safetensors and no GGUF files.`, {
    hint: pickles
      ? "It has pickles, which run code when they are loaded and are never fetched. Look for a conversion of it."
      : "It is no model that can be imported.",
  });
}

/** `*` and `?` stay within a folder, `**` does not. */
function globPattern(glob: string): RegExp {
  if (glob.length > 128) {
    throw new LibraryError(
      "invalid_reference",
      "A pattern of --include has at most 128 characters.",
    );
  }
  const source = glob
    .split(/(\*\*|\*|\?)/)
    .map((part) => {
      if (part === "**") return ".*";
      if (part === "*") return "[^/]*";
      return part === "?" ? "[^/]" : part.replace(/[.+^${}()|[\]\\/-]/g, "\\$&");
    })
    .join("");
  return new RegExp(`^${source}$`);
}

/** By their ending, because a pickle's ending is all that is known before it is here. */
function isHarmless(name: string): boolean {
  return /\.(json|jinja|txt|md|model|safetensors|gguf)$/.test(name) || isLicence(name);
}

function isLicence(name: string): boolean {
  return /^(LICEN[CS]E|NOTICE)(\.(txt|md))?$/i.test(name);
}

function shown(names: readonly string[]): string {
  const some = names.slice(0, 12).join(", ");
  return names.length > 12 ? `${some} and ${names.length - 12} more` : some;
}

const smallFiles = new Set([
  "config.json",
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "model.safetensors.index.json",
]);
const usualWeights = /^model(-\d{5}-of-\d{5})?\.safetensors$/;
const anyWeights = /^[^/]+\.safetensors$/;
const smallBytesMax = 256 * 2 ** 20;
const filesMax = 1000;

const sizeBytes = z.int().nonnegative();
const modelInfo = z.object({
  sha: z.string().regex(/^[0-9a-f]{40}$/),
  gated: z.union([z.boolean(), z.string()]).nullish(),
  cardData: z.object({ license: z.unknown() }).nullish().catch(undefined),
  safetensors: z.object({ total: z.number().nullish() }).nullish().catch(undefined),
  siblings: z
    .array(
      z.object({
        rfilename: z.string().max(1024),
        size: sizeBytes.nullish(),
        blobId: z
          .string()
          .regex(/^[0-9a-f]{40}$/)
          .nullish(),
        lfs: z.object({ sha256: z.string().regex(/^[0-9a-f]{64}$/), size: sizeBytes }).nullish(),
      }),
    )
    .max(50_000),
});
