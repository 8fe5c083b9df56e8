/**
 * What was pulled from a hub, on this disk: `sources/owner--name/COMMIT/` holds the files of one commit,
 * and its `source.json` is written last, so that a pull which was cut off does not look finished.
 */
import { mkdir, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { folderBytes, readJsonFile, sha256Text, writeJsonAtomically } from "./files.ts";
import { LibraryError } from "./library-error.ts";
import { formatHubRef, type HubRef, isCommit, parseHubRef } from "./source-ref.ts";

export type PulledFile = { name: string; sizeBytes: number; sha256: string };

/** One commit of a repository, whole. */
export type PulledSource = {
  repo: string;
  commit: string;
  /** The one GGUF file that was asked for. */
  file: string | undefined;
  folder: string;
  /** What an import reads: the folder, or the GGUF file in it. */
  importPath: string;
  files: PulledFile[];
  sizeBytes: number;
  licence: string | undefined;
  /** The hub it came from. */
  endpoint: string;
  pulledAt: string;
  /** Branches and tags that pointed here when they were pulled. */
  revisions: string[];
};

/** A pull that has not ended. */
export type UnfinishedSource = { repo: string; folder: string; sizeBytes: number };

function sourcesFolder(dataDir: string): string {
  return join(dataDir, "sources");
}

/** Where the files of a commit lie, or will. A GGUF file has a folder of its own. */
export function sourceFolder(
  dataDir: string,
  { repo, commit, file }: { repo: string; commit: string; file: string | undefined },
): string {
  const leaf = file === undefined ? commit : `${commit}--${file.replaceAll("/", "--")}`;
  return join(repoFolder(dataDir, repo), leaf);
}

/** Says that a folder is complete. */
export async function writePulled(
  source: Omit<PulledSource, "folder" | "importPath" | "sizeBytes" | "revisions">,
  folder: string,
): Promise<void> {
  await writeJsonAtomically(join(folder, sourceFileName), { version: 1, ...source });
}

/** Remembers which commit a branch or tag was when it was pulled. */
export async function writeRevision(dataDir: string, ref: HubRef, commit: string): Promise<void> {
  if (isCommit(ref.revision)) return;
  const folder = repoFolder(dataDir, ref.repo);
  await mkdir(folder, { recursive: true });
  const known = await readRevisions(folder);
  await writeJsonAtomically(join(folder, revisionsFileName), { ...known, [ref.revision]: commit });
}

/** Everything that was pulled, by repository, the newest first. */
export async function listPulled(
  dataDir: string,
): Promise<{ complete: PulledSource[]; unfinished: UnfinishedSource[] }> {
  const complete: PulledSource[] = [];
  const unfinished: UnfinishedSource[] = [];
  for (const entry of await foldersOf(sourcesFolder(dataDir))) {
    const folder = join(sourcesFolder(dataDir), entry);
    const revisions = await readRevisions(folder);
    for (const leaf of await foldersOf(folder)) {
      const source = await readPulled(join(folder, leaf), revisions);
      if (source) complete.push(source);
      else unfinished.push(await describeUnfinished(entry, join(folder, leaf)));
    }
  }
  complete.sort((a, b) => a.repo.localeCompare(b.repo) || b.pulledAt.localeCompare(a.pulledAt));
  return { complete, unfinished };
}

/** The source that a reference means here; nothing is asked of any hub. */
export async function findPulled(dataDir: string, ref: HubRef): Promise<PulledSource | undefined> {
  const folder = repoFolder(dataDir, ref.repo);
  const revisions = await readRevisions(folder);
  const commit = await commitOf(folder, ref.revision, revisions);
  if (commit === undefined) return undefined;
  const wanted = sourceFolder(dataDir, { repo: ref.repo, commit, file: ref.file });
  return readPulled(wanted, revisions);
}

/** @throws LibraryError `model_not_found` that says how to get it, and what is here instead */
export async function requirePulled(dataDir: string, text: string): Promise<PulledSource> {
  const ref = parseHubRef(text);
  const found = await findPulled(dataDir, ref);
  if (found) return found;
  const { complete, unfinished } = await listPulled(dataDir);
  const same = complete.filter(({ repo }) => repo === ref.repo).map(pulledName);
  const begun = unfinished.some(({ repo }) => repo === ref.repo);
  const here =
    same.length > 0
      ? ` Of this repository there is: ${same.join(", ")}.`
      : begun
        ? " A pull of it was begun and has not ended."
        : "";
  throw new LibraryError("model_not_found", `'${formatHubRef(ref)}' was not pulled.${here}`, {
    hint: `Get it with 'switchyard models pull ${text}'. Nothing else downloads.`,
  });
}

/** `hf:owner/name@` with a commit that is short and still clear. */
export function pulledName({
  repo,
  commit,
  file,
}: {
  repo: string;
  commit: string;
  file?: string | undefined;
}): string {
  return formatHubRef({ repo, revision: commit.slice(0, shortCommit), file });
}

async function readPulled(
  folder: string,
  revisions: Readonly<Record<string, string>>,
): Promise<PulledSource | undefined> {
  const source = await readJsonFile(join(folder, sourceFileName), sourceFile);
  if (!source) return undefined;
  const { version: _, file, licence, ...facts } = source;
  return {
    ...facts,
    file,
    licence,
    folder,
    importPath: file === undefined ? folder : join(folder, file),
    sizeBytes: facts.files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    revisions: Object.keys(revisions).filter((name) => revisions[name] === facts.commit),
  };
}

async function commitOf(
  folder: string,
  revision: string,
  revisions: Readonly<Record<string, string>>,
): Promise<string | undefined> {
  if (isCommit(revision)) return revision;
  if (Object.hasOwn(revisions, revision)) return revisions[revision];
  if (!/^[0-9a-f]{7,39}$/.test(revision)) return undefined;
  const commits = new Set((await foldersOf(folder)).map((leaf) => leaf.slice(0, 40)));
  const found = [...commits].filter((commit) => commit.startsWith(revision));
  if (found.length > 1) {
    throw new LibraryError(
      "ambiguous_name",
      `'${revision}' begins several commits that are here.`,
      {
        hint: "Write more of the commit.",
      },
    );
  }
  return found[0];
}

async function describeUnfinished(entry: string, folder: string): Promise<UnfinishedSource> {
  return { repo: entry.replace("--", "/"), folder, sizeBytes: await folderBytes(folder) };
}

async function readRevisions(folder: string): Promise<Record<string, string>> {
  return (await readJsonFile(join(folder, revisionsFileName), revisionsFile)) ?? {};
}

function repoFolder(dataDir: string, repo: string): string {
  return join(sourcesFolder(dataDir), repo.replace("/", "--"));
}

async function foldersOf(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => []);
  const kinds = await Promise.all(
    names.map((name) =>
      stat(join(folder, name)).then(
        (found) => found.isDirectory(),
        () => false,
      ),
    ),
  );
  return names.filter((name, index) => kinds[index] && !name.endsWith(".tmp")).sort();
}

/** Held by the process that pulls into a folder. */
export const pullLockName = "pull.lock";
const shortCommit = 12;
const sourceFileName = "source.json";
const revisionsFileName = "revisions.json";
const commitText = z.string().regex(/^[0-9a-f]{40}$/);
const revisionsFile = z.record(z.string(), commitText);
const sourceFile = z.object({
  version: z.literal(1),
  repo: z.string(),
  commit: commitText,
  file: z.string().optional(),
  files: z.array(z.object({ name: z.string(), sizeBytes: z.number(), sha256: sha256Text })),
  licence: z.string().optional(),
  endpoint: z.string(),
  pulledAt: z.string(),
});
