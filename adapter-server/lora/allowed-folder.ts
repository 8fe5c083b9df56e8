/** Which folders an operator may name: those below the ones that the settings open. */
import { realpath } from "node:fs/promises";
import { isAbsolute, relative, resolve, sep } from "node:path";

/**
 * The real path when it lies below an allowed folder, links followed; whether others exist is not told.
 * @param path a relative one is looked for in each of the folders
 */
export async function allowedFolder(
  path: string,
  folders: readonly string[],
): Promise<string | undefined> {
  for (const folder of folders) {
    const [root, target] = await Promise.all([real(folder), real(resolve(folder, path))]);
    if (root === undefined || target === undefined) continue;
    const inside = relative(root, target);
    if (inside !== ".." && !inside.startsWith(`..${sep}`) && !isAbsolute(inside)) return target;
  }
  return undefined;
}

function real(path: string): Promise<string | undefined> {
  return realpath(path).catch(() => undefined);
}
