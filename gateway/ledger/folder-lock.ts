/** One process owns a folder: a lock file that names its owner, and a way to tell a dead owner. */
import { readFileSync } from "node:fs";
import { readFile, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
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
  const mine = JSON.stringify(self());
  for (;;) {
    try {
      await writeFile(path, mine, { flag: "wx", mode: 0o600 });
      break;
    } catch (error) {
      if (!isCode(error, "EEXIST")) throw error;
      await removeStale(path, folder);
    }
  }
  const touch = setInterval(() => {
    const now = new Date();
    void utimes(path, now, now).catch(() => {});
  }, touchEveryMs);
  touch.unref();
  return {
    async release() {
      clearInterval(touch);
      if ((await readOwner(path)) === mine) await rm(path, { force: true });
    },
  };
}

/** Moves the file away before deleting it, so that a lock taken by another process meanwhile survives. */
async function removeStale(path: string, folder: string): Promise<void> {
  const found = await readOwner(path);
  if (found === undefined) return;
  const owner = parseOwner(found);
  // A process writes its lock in one go; what is not readable was cut off by a crash.
  if (owner && (await isAlive(path, owner))) throw new FolderInUse(folder, owner);
  const aside = `${path}.${process.pid}.stale`;
  try {
    await rename(path, aside);
  } catch (error) {
    if (isCode(error, "ENOENT")) return;
    throw error;
  }
  if ((await readOwner(aside)) === found) await rm(aside, { force: true });
  else await rename(aside, path);
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

type Owner = { pid: number; host: string; started?: string };

function self(): Owner {
  const started = startOf(process.pid);
  return { pid: process.pid, host: hostname(), ...(started === undefined ? {} : { started }) };
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
