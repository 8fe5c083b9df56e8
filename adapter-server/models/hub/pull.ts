/** `models pull`: brings one commit of a repository onto this disk, whole and verified, or goes on with it. */
import { mkdir, readdir, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { takeLock } from "../library/holds.ts";
import { LibraryError } from "../library/library-error.ts";
import {
  findPulled,
  type PulledFile,
  type PulledSource,
  pulledName,
  pullLockName,
  sourceFolder,
  writePulled,
  writeRevision,
} from "../library/pulled.ts";
import { checkDisk, downloadWarning, type Machine, thisMachine } from "../library/room.ts";
import { formatHubRef, type HubRef, isCommit } from "../library/source-ref.ts";
import { bytesHere, downloadFile } from "./download-file.ts";
import type { HubAccess } from "./hub-access.ts";
import { gated, HubConnection } from "./hub-connection.ts";
import { type RepoCommit, type RepoFile, resolveRevision, selectFiles } from "./repo-files.ts";
import { realWaiting, type Waiting, withRetries } from "./retries.ts";

/** What a pull will do, told before it begins. */
export type PullPlan = {
  name: string;
  commit: string;
  files: { name: string; sizeBytes: number }[];
  totalBytes: number;
  /** What an earlier pull has left of it. */
  hereBytes: number;
  licence: string | undefined;
  /** What will not fit into memory. */
  warning: string | undefined;
};

export type PullOptions = {
  ref: HubRef;
  /** Patterns of further files. */
  include?: readonly string[] | undefined;
  dataDir: string;
  access: HubAccess;
  onPlan?: ((plan: PullPlan) => void) | undefined;
  onProgress?: ((done: number, total: number) => void) | undefined;
  waiting?: Waiting | undefined;
  machine?: Machine | undefined;
  nowMs?: (() => number) | undefined;
};

export type Pulled = { source: PulledSource; wasHere: boolean };

/**
 * Pulls a revision as the commit that it is now. A pull that was cut off goes on where it ended.
 * @throws LibraryError that says what to do
 */
export async function pullModel(options: PullOptions): Promise<Pulled> {
  const { ref, include = [], dataDir, access } = options;
  const known = await findPulled(dataDir, ref);
  if (known && include.length === 0 && (access.offline || isCommit(ref.revision))) {
    return { source: known, wasHere: true };
  }
  if (access.offline) {
    throw new LibraryError(
      "hub_offline",
      `${formatHubRef(ref)} is not here, and HF_HUB_OFFLINE is set.`,
      {
        hint: "Unset HF_HUB_OFFLINE to pull it.",
      },
    );
  }
  const connection = new HubConnection(access, options.nowMs);
  try {
    return await pullFrom(connection, options);
  } finally {
    await connection.close();
  }
}

async function pullFrom(connection: HubConnection, options: PullOptions): Promise<Pulled> {
  const { ref, include, dataDir, access, machine = thisMachine() } = options;
  const waiting = options.waiting ?? realWaiting;
  const found = await withRetries(() => resolveRevision(connection, ref), waiting);
  if (found.gated && access.token === undefined) throw gated(ref.repo, access);
  const files = selectFiles(found, { ref, include });
  const { commit } = found;
  const pinned: HubRef = { ...ref, revision: commit };
  const here = await findWith(dataDir, pinned, files);
  if (here) {
    await writeRevision(dataDir, ref, commit);
    return { source: here, wasHere: true };
  }

  const folder = sourceFolder(dataDir, { repo: ref.repo, commit, file: ref.file });
  const plan = await planOf(found, { files, ref, folder, machine });
  await checkDisk(plan.totalBytes - plan.hereBytes, { folder: dataDir, what: plan.name, machine });
  options.onPlan?.(plan);
  await mkdir(folder, { recursive: true });
  await clearRemoved(dirname(folder));
  const release = await takeLock(join(folder, pullLockName), plan.name);
  try {
    const pulled = await download(connection, { ...options, files, folder, commit, waiting });
    const earlier = (await findPulled(dataDir, pinned))?.files ?? [];
    const names = new Set(pulled.map(({ name }) => name));
    await writePulled(
      {
        repo: ref.repo,
        commit,
        file: ref.file,
        files: [...pulled, ...earlier.filter(({ name }) => !names.has(name))],
        licence: found.licence,
        endpoint: access.endpoint,
        pulledAt: new Date((options.nowMs ?? Date.now)()).toISOString(),
      },
      folder,
    );
  } finally {
    await release();
  }
  await writeRevision(dataDir, ref, commit);
  const source = await findPulled(dataDir, pinned);
  if (!source) throw new Error(`the pull of ${plan.name} left nothing`);
  return { source, wasHere: false };
}

async function download(
  connection: HubConnection,
  {
    ref,
    files,
    folder,
    commit,
    waiting,
    onProgress,
  }: PullOptions & { files: RepoFile[]; folder: string; commit: string; waiting: Waiting },
): Promise<PulledFile[]> {
  const total = files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const pulled: PulledFile[] = [];
  let before = 0;
  for (const file of files) {
    pulled.push(
      await downloadFile({
        connection,
        repo: ref.repo,
        commit,
        file,
        target: join(folder, file.name),
        waiting,
        onBytes: (have) => onProgress?.(before + have, total),
      }),
    );
    before += file.sizeBytes;
  }
  return pulled;
}

/** A complete source that has all these files. */
async function findWith(
  dataDir: string,
  pinned: HubRef,
  files: readonly RepoFile[],
): Promise<PulledSource | undefined> {
  const source = await findPulled(dataDir, pinned);
  const names = new Set(source?.files.map(({ name }) => name));
  return files.every(({ name }) => names.has(name)) ? source : undefined;
}

async function planOf(
  { commit, licence, parameters }: RepoCommit,
  {
    files,
    ref,
    folder,
    machine,
  }: { files: readonly RepoFile[]; ref: HubRef; folder: string; machine: Machine },
): Promise<PullPlan> {
  const here = await Promise.all(files.map((file) => bytesHere(join(folder, file.name), file)));
  const weights = files.filter(({ name }) => /\.(safetensors|gguf)$/.test(name));
  const weightBytes = weights.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  return {
    name: pulledName({ repo: ref.repo, commit, file: ref.file }),
    commit,
    files: files.map(({ name, sizeBytes }) => ({ name, sizeBytes })),
    totalBytes: files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    hereBytes: here.reduce((sum, bytes) => sum + bytes, 0),
    licence,
    // Nearly all checkpoints hold 16-bit numbers; of a GGUF file only its header tells.
    warning: downloadWarning(
      parameters ?? (ref.file === undefined ? weightBytes / 2 : weightBytes),
      machine,
    ),
  };
}

/** What removals that were killed have left behind. */
async function clearRemoved(repoFolder: string): Promise<void> {
  for (const name of await readdir(repoFolder)) {
    if (!name.endsWith(".tmp") || name.includes(".json.")) continue;
    await rm(join(repoFolder, name), { recursive: true, force: true });
  }
}
