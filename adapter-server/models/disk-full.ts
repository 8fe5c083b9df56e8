/** Tells a full disk from other failures of writing. */
import { statfs } from "node:fs/promises";
import { HubError } from "../../sdk/protocol/errors.ts";

/**
 * What to throw for a failure of writing into a folder, which is still there.
 * @returns HubError `storage_full` when the disk is full, else the error itself
 */
export async function asStorageError(error: unknown, folder: string): Promise<unknown> {
  if (error instanceof HubError) return error;
  if (codeOf(error) !== "ENOSPC" && !(await isFull(folder))) return error;
  return new HubError("storage_full", "The disk is full; the model could not be imported.", {
    cause: error,
  });
}

/** Native code says that it could not write, and not why. */
async function isFull(folder: string): Promise<boolean> {
  const disk = await statfs(folder).catch(() => undefined);
  return disk !== undefined && disk.bavail * disk.bsize < fullBelowBytes;
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}

const fullBelowBytes = 1 << 20;
