/** The folder that holds everything this installation knows: made private, checked, held by one process. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { StartError } from "../settings/load.ts";

export type DataFolder = { path: string; release(): void };

/**
 * Makes the folder when it is missing and takes it for this process, so that no two write to it.
 * A lock whose process is gone is taken over.
 * @throws StartError when the folder cannot be written or another process holds it
 */
export function openDataFolder(path: string): DataFolder {
  const lock = join(path, "lock");
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    takeLock(lock, path);
  } catch (error) {
    if (error instanceof StartError) throw error;
    throw new StartError(
      `the data folder ${path} cannot be written: ${(error as Error).message}. Set SWITCHYARD_DATA_DIR to a folder that this user may write.`,
      { cause: error },
    );
  }
  return { path, release: () => rmSync(lock, { force: true }) };
}

function takeLock(lock: string, path: string): void {
  for (let attempt = 0; attempt < 2; attempt++) {
    try {
      writeFileSync(lock, String(process.pid), { flag: "wx", mode: 0o600 });
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const holder = Number(readFileSync(lock, "utf8"));
    if (isRunning(holder)) {
      throw new StartError(
        `the data folder ${path} is in use by process ${holder}. Stop it, or set SWITCHYARD_DATA_DIR to another folder.`,
      );
    }
    rmSync(lock, { force: true });
  }
  throw new StartError(`the data folder ${path} is being taken by another process at this moment`);
}

/** A recycled process id may be ours: a lock of this very process is from an earlier life. */
function isRunning(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0 || pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
