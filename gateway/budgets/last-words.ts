/**
 * What a process settled of money that it held ahead, in a file that survives its kill. Whoever opens the folder next says
 * it for the dead, so that what was held ahead and not spent comes back to all.
 */
import { closeSync, openSync, readFileSync, renameSync, rmSync, writeSync } from "node:fs";
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import type { PicoUsd } from "../../sdk/protocol/money.ts";
import type { LastWord, SharedBudgets } from "./types.ts";

export type LastWordsOptions = {
  /** One process at a time has it. */
  folder: string;
  /** As the shared store knows this process. */
  owner: string;
  /** Tells a machine's start from the one before: what was not forced onto the disk may be gone after that. */
  boot?: string | undefined;
  onError: (error: unknown) => void;
};

type Left = { path: string; owner: string };

export class LastWords {
  readonly #options: LastWordsOptions;
  readonly #path: string;
  readonly #settled = new Map<string, PicoUsd>();
  readonly #left: Left[];
  #file: number | undefined;
  #bytes = 0;
  #rewriteAtBytes = rewriteBytesMin;
  #isBroken = false;
  #saying: Promise<void> | undefined;

  static async open(options: LastWordsOptions): Promise<LastWords> {
    const { folder, boot = bootOfMachine() } = options;
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const left: Left[] = [];
    for (const name of await readdir(folder)) {
      const path = join(folder, name);
      const owner = logName.exec(name)?.[1];
      if (owner && (await readWords(path, boot))) left.push({ path, owner });
      else await rm(path, { force: true });
    }
    return new LastWords({ ...options, boot }, left);
  }

  private constructor(options: LastWordsOptions, left: Left[]) {
    this.#options = options;
    this.#left = left;
    this.#path = join(options.folder, `${options.owner}.log`);
  }

  /**
   * In the page cache when it returns, and so before the ledger can hear of it. Where it cannot be written this process
   * leaves no word. Never throws.
   * @param settled absent where nothing is held of the counter any more
   */
  note(name: string, settled: PicoUsd | undefined): void {
    if (settled === undefined) this.#settled.delete(name);
    else this.#settled.set(name, settled);
    if (this.#isBroken || this.#options.boot === undefined) return;
    try {
      this.#file ??= this.#begin();
      this.#write(this.#file, [name, settled]);
      if (this.#bytes > this.#rewriteAtBytes) this.#rewrite();
    } catch (error) {
      this.#isBroken = true;
      this.#options.onError(error);
      void rm(this.#path, { force: true }).catch(this.#options.onError);
    }
  }

  /** Tells the store what those before this process left, as far as they count as dead there. */
  say(store: Pick<SharedBudgets, "lastWord">): Promise<void> {
    this.#saying ??= this.#sayAll(store).finally(() => {
      this.#saying = undefined;
    });
    return this.#saying;
  }

  async #sayAll(store: Pick<SharedBudgets, "lastWord">): Promise<void> {
    for (const left of [...this.#left]) {
      // Read each time: one that only seemed dead may have gone on.
      const words = await readWords(left.path, this.#options.boot);
      const living = await store.lastWord(left.owner, words ?? []);
      if (living.length > 0) continue;
      await rm(left.path, { force: true });
      this.#left.splice(this.#left.indexOf(left), 1);
    }
  }

  /** What is still held is left to the next process. */
  close(): void {
    if (this.#file === undefined) return;
    closeSync(this.#file);
    this.#file = undefined;
    this.#isBroken = true;
    if (this.#settled.size === 0) rmSync(this.#path, { force: true });
  }

  #begin(path = this.#path): number {
    const file = openSync(path, "w", 0o600);
    this.#bytes = 0;
    this.#write(file, [this.#options.boot ?? ""]);
    return file;
  }

  #write(file: number, line: readonly unknown[]): void {
    const bytes = Buffer.from(`${JSON.stringify(line.map((it) => it?.toString()))}\n`);
    for (let written = 0; written < bytes.length; ) written += writeSync(file, bytes, written);
    this.#bytes += bytes.length;
  }

  /** Only what stands is kept; the old file is there until the new one is whole. */
  #rewrite(): void {
    const path = `${this.#path}.new`;
    const file = this.#begin(path);
    for (const line of this.#settled) this.#write(file, line);
    renameSync(path, this.#path);
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = file;
    this.#rewriteAtBytes = Math.max(rewriteBytesMin, 2 * this.#bytes);
  }
}

/** @returns the last of each counter; nothing where the machine was started anew since, or a line is none */
async function readWords(path: string, boot: string | undefined): Promise<LastWord[] | undefined> {
  const [head = "", ...lines] = (await readFile(path, "utf8").catch(() => "")).split("\n");
  if (boot === undefined || head !== JSON.stringify([boot])) return undefined;
  const settled = new Map<string, PicoUsd>();
  // Behind the last line feed stands nothing, or what the kill has cut off.
  for (const line of lines.slice(0, -1)) {
    const [name, sum] = wordLine.safeParse(parse(line)).data ?? [];
    if (name === undefined) return undefined;
    if (sum == null) settled.delete(name);
    else settled.set(name, BigInt(sum));
  }
  return [...settled].map(([name, sum]) => ({ name, settled: sum }));
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

/** On Linux; elsewhere nobody can tell, and no word is left. */
function bootOfMachine(): string | undefined {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return undefined;
  }
}

const logName = /^([\w-]+)\.log$/;
const rewriteBytesMin = 1 << 20;
const wordLine = z.tuple([z.string(), z.string().regex(/^\d+$/).nullable()]);
