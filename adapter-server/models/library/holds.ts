/** Marks of running processes on folders: who uses one, and who alone may write to one. */
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { readdir, readFile, rm, stat, utimes, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { LibraryError } from "./library-error.ts";

/**
 * Marks a folder as used by this process, so that nobody removes it.
 * @returns takes the mark away; a process that was killed leaves one that no longer counts
 */
export async function holdFolder(folder: string): Promise<() => Promise<void>> {
  try {
    return await writeMark(join(folder, `${holdPrefix}${randomUUID()}`));
  } catch (error) {
    // A folder that cannot be written cannot be removed either.
    if (readOnlyCodes.has((error as NodeJS.ErrnoException).code ?? "")) return async () => {};
    throw error;
  }
}

/** The running processes that use a folder, each as `process 12` and its machine where that is another. */
export async function holdersOf(folder: string): Promise<string[]> {
  const names: string[] = await readdir(folder).catch(() => []);
  const marks = names.filter(isHold).map((name) => livingOwner(join(folder, name)));
  const owners = (await Promise.all(marks)).filter((owner) => owner !== undefined);
  return [...new Set(owners.map(nameOf))];
}

/** Whether a file of a folder is a mark, and no part of what the folder holds. */
export function isHold(name: string): boolean {
  return name.startsWith(holdPrefix);
}

/**
 * Takes a lock file for this process. A lock whose process is gone is taken over.
 * @returns gives it back
 * @throws LibraryError `in_use` while another process has it
 */
export async function takeLock(path: string, what: string): Promise<() => Promise<void>> {
  for (let attempt = 0; attempt < 2; attempt++) {
    try {
      return await writeMark(path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    await checkLock(path, what);
    await rm(path, { force: true });
  }
  throw new LibraryError(
    "in_use",
    `${what} is worked on by another process, which has just begun.`,
  );
}

/** @throws LibraryError `in_use` when a running process has the lock */
export async function checkLock(path: string, what: string): Promise<void> {
  const owner = await livingOwner(path);
  if (!owner) return;
  throw new LibraryError("in_use", `${what} is worked on by ${nameOf(owner)}.`, {
    hint: "Wait for it to end, or end it.",
  });
}

async function writeMark(path: string): Promise<() => Promise<void>> {
  await writeFile(path, JSON.stringify(self()), { flag: "wx" });
  const touch = setInterval(() => {
    const now = new Date();
    void utimes(path, now, now).catch(() => {});
  }, touchEveryMs);
  touch.unref();
  return async () => {
    clearInterval(touch);
    await rm(path, { force: true });
  };
}

/**
 * The process behind a mark, when it still runs. Ids are given out again, so a process is known by when
 * it began as well; one of another machine or container counts while it keeps touching its mark.
 */
async function livingOwner(path: string): Promise<Owner | undefined> {
  const text = await readFile(path, "utf8").catch(() => undefined);
  const found = text === undefined ? undefined : parseOwner(text);
  if (!found) return undefined;
  if (found.host !== hostname()) {
    const touchedMs = await stat(path).then(
      ({ mtimeMs }) => mtimeMs,
      () => 0,
    );
    return Date.now() - touchedMs < touchEveryMs * 6 ? found : undefined;
  }
  try {
    process.kill(found.pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM" ? found : undefined;
  }
  return found.started === undefined || found.started === startOf(found.pid) ? found : undefined;
}

function self(): Owner {
  const started = startOf(process.pid);
  return { pid: process.pid, host: hostname(), ...(started === undefined ? {} : { started }) };
}

/** Boot and start tick of a process, on Linux; elsewhere a living id is believed. */
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

function nameOf({ pid, host }: Owner): string {
  return `process ${pid}${host === hostname() ? "" : ` on ${host}`}`;
}

function parseOwner(text: string): Owner | undefined {
  try {
    return ownerText.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

type Owner = z.infer<typeof ownerText>;
const ownerText = z.object({
  pid: z.int().positive(),
  host: z.string(),
  started: z.string().optional(),
});
const holdPrefix = "in-use.";
const touchEveryMs = 5000;
const readOnlyCodes = new Set(["EROFS", "EACCES", "EPERM"]);
