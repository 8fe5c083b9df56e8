/** The folder that holds everything this installation knows: made private, checked, held by one process. */
import { mkdir } from "node:fs/promises";
import { FolderInUse, lockFolder } from "../../gateway/ledger/folder-lock.ts";
import { StartError } from "../settings/load.ts";

export type DataFolder = { path: string; release(): Promise<void> };

/**
 * Makes the folder when it is missing and takes it for this process, so that no two write to it. A lock
 * whose process is gone is taken over. All that this process makes from now on is its user's alone, also
 * in a folder that was there before and lets others in.
 * @throws StartError when the folder cannot be written or another process holds it
 */
export async function openDataFolder(path: string): Promise<DataFolder> {
  process.umask(0o077);
  try {
    await mkdir(path, { recursive: true });
    const { release } = await lockFolder(path);
    return { path, release };
  } catch (error) {
    if (error instanceof FolderInUse) {
      throw new StartError(
        `the data folder ${path} is in use by ${error.holder}. Stop it, or set SWITCHYARD_DATA_DIR to another folder.`,
      );
    }
    throw new StartError(
      `the data folder ${path} cannot be written: ${(error as Error).message}. Set SWITCHYARD_DATA_DIR to a folder that this user may write.`,
      { cause: error },
    );
  }
}
