/** One process owns a folder: a lock file that names its owner, and a way to tell a dead owner. */
import { hash, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { link, readFile, rm, stat, utimes, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";

export type FolderLock = { release(): Promise<void> };

/** A living process holds the folder. */
export class FolderInUse extends Error {
  override readonly name = "FolderInUse";
  /** `process 12`, and on which machine where that is another. */
  readonly holder: string;
  constructor(folder: string, { pid, host }: Owner) {
    const holder = `process ${pid}${host === hostname() ? "" : ` on ${host}`}`;
    super(
      `the folder ${folder} belongs to a running process: ${holder}. Give each its own data folder.`,
    );
    this.holder = holder;
  }
}

/**
 * @throws FolderInUse when a living process holds the folder
 *
 * A pid alone does not identify a process: containers start over with the same small numbers. So the
 * owner also writes when it was started; one on another machine or in another container, whose pid
 * means nothing here, counts as alive while it keeps touching the file.
 */
export async function lockFolder(folder: string): Promise<FolderLock> {
  const path = join(folder, "lock");
  const { release } = await take(path, folder);
  const touch = setInterval(() => {
    const now = new Date();
    void utimes(path, now, now).catch(() => {});
  }, touchEveryMs);
  touch.unref();
  return {
    async release() {
      clearInterval(touch);
      await release();
    },
  };
}

/**
 * Two may find the same dead owner's file, so removing it is under a lock of its own, named after what the
 * file says: whoever holds that one and still finds those words knows that nobody else replaces them. The
 * lock of a remover that died is taken over in the same way.
 */
async function take(path: string, folder: string): Promise<FolderLock> {
  const mine = JSON.stringify(self());
  while (!(await create(path, mine))) {
    const found = await readOwner(path);
    if (found === undefined) continue;
    const owner = parseOwner(found);
    if (owner && (await isAlive(path, owner))) throw new FolderInUse(folder, owner);
    const removing = await take(`${path}.${hash("sha256", found).slice(0, 16)}`, folder);
    if ((await readOwner(path)) === found) await rm(path, { force: true });
    await removing.release();
  }
  return {
    async release() {
      if ((await readOwner(path)) === mine) await rm(path, { force: true });
    },
  };
}

/** Makes the file with all its words at once, or not at all: nobody ever reads half an owner. */
async function create(path: string, words: string): Promise<boolean> {
  const draft = `${path}.${randomUUID()}`;
  await writeFile(draft, words, { flag: "wx", mode: 0o600 });
  try {
    await link(draft, path);
    return true;
  } catch (error) {
    if (isCode(error, "EEXIST")) return false;
    throw error;
  } finally {
    await rm(draft, { force: true });
  }
}

async function isAlive(path: string, owner: Owner): Promise<boolean> {
  if (owner.host !== hostname()) {
    const touched = await stat(path).then(
      (file) => file.mtimeMs,
      () => 0,
    );
    return Date.now() - touched < touchEveryMs * 6;
  }
  try {
    process.kill(owner.pid, 0);
  } catch (error) {
    return isCode(error, "EPERM");
  }
  return owner.started === undefined || owner.started === startOf(owner.pid);
}

/** `nonce` tells two locks of one process apart. */
type Owner = { pid: number; host: string; started?: string; nonce?: string };

function self(): Owner {
  const started = startOf(process.pid);
  const nonce = randomUUID();
  return { pid: process.pid, host: hostname(), ...(started && { started }), nonce };
}

/** Boot and start tick of a process, on Linux; elsewhere a living pid is believed. */
function startOf(pid: number): string | undefined {
  try {
    const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
    // The name in brackets may hold spaces; the 22nd field is the 20th after it.
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.split(" ") ?? [];
    return `${boot}:${fields[19]}`;
  } catch {
    return undefined;
  }
}

async function readOwner(path: string): Promise<string | undefined> {
  return readFile(path, "utf8").catch((error: unknown) => {
    if (isCode(error, "ENOENT")) return undefined;
    throw error;
  });
}

function parseOwner(text: string): Owner | undefined {
  try {
    const owner = JSON.parse(text) as Partial<Owner>;
    return typeof owner.pid === "number" && typeof owner.host === "string"
      ? (owner as Owner)
      : undefined;
  } catch {
    return undefined;
  }
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}

const touchEveryMs = 5_000;
