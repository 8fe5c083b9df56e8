/** Brings one file of a commit: goes on where an earlier try ended, and keeps only bytes that hash right. */
import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, mkdir, open, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import type { Response } from "undici";
import { exists, gitBlobHash, hashFile } from "../library/files.ts";
import { LibraryError } from "../library/library-error.ts";
import type { PulledFile } from "../library/pulled.ts";
import { type HubConnection, PassingFailure } from "./hub-connection.ts";
import type { RepoFile } from "./repo-files.ts";
import { type Waiting, withRetries } from "./retries.ts";

export type DownloadOptions = {
  connection: HubConnection;
  repo: string;
  commit: string;
  file: RepoFile;
  /** Where it comes to lie; beside it lies the part that has arrived, until it is whole and right. */
  target: string;
  waiting: Waiting;
  /** Bytes that are here now. */
  onBytes: (have: number) => void;
};

/**
 * The content of a commit never changes and its digest is known beforehand, so a part of it needs no
 * etag to be gone on with: a wrong part shows in the digest, and is then fetched anew as a whole, once.
 * (The store behind the hub sends no etag with large files.)
 * @throws LibraryError `digest_mismatch`, `disk_full`, `hub_failed`
 */
export async function downloadFile(options: DownloadOptions): Promise<PulledFile> {
  const { file, target, onBytes, waiting } = options;
  const here = await verifiedBefore(target, file);
  if (here) {
    onBytes(file.sizeBytes);
    return here;
  }
  await mkdir(dirname(target), { recursive: true });
  const partPath = `${target}${partSuffix}`;
  const part = await Part.open(partPath, file);
  const resumedAt = part.have;
  try {
    for (let whole = false; ; whole = true) {
      await fetchRest(part, options);
      const sha256 = await part.finish();
      if (sha256 !== undefined) {
        await rename(partPath, target);
        return { name: file.name, sizeBytes: file.sizeBytes, sha256 };
      }
      await part.reset();
      onBytes(0);
      if (whole || resumedAt === 0) throw mismatch(options);
      waiting.onRetry(`${file.name} does not hash to what the hub says; fetching it as a whole`);
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
    throw new LibraryError("disk_full", `The disk is full; ${file.name} could not be written.`, {
      hint: "Make room and run the same command: it goes on where it stopped.",
      cause: error,
    });
  } finally {
    await part.close();
  }
}

/** Bytes that an earlier try has left of a file. */
export async function bytesHere(target: string, file: RepoFile): Promise<number> {
  for (const path of [target, `${target}${partSuffix}`]) {
    const size = await stat(path).then(
      (found) => found.size,
      () => 0,
    );
    if (size > 0) return Math.min(size, file.sizeBytes);
  }
  return 0;
}

async function fetchRest(part: Part, options: DownloadOptions): Promise<void> {
  let mark = part.have;
  await withRetries(
    () => fetchOnce(part, options),
    options.waiting,
    () => {
      const far = part.have - mark >= progressBytes;
      mark = Math.max(mark, part.have);
      return far;
    },
  );
}

async function fetchOnce(part: Part, options: DownloadOptions): Promise<void> {
  const { connection, repo, commit, file, onBytes } = options;
  if (part.have === file.sizeBytes) return;
  const path = `/${repo}/resolve/${commit}/${file.name.split("/").map(encodeURIComponent).join("/")}`;
  const from = part.have;
  const response = await connection.get(path, {
    what: `hf:${repo}/${file.name}@${commit}`,
    headers: from > 0 ? { range: `bytes=${from}-` } : {},
  });
  try {
    if (!startsAt(response, from, file.sizeBytes)) {
      // The whole file came, or the range was refused: what is here counts for nothing.
      await part.reset();
      if (response.status !== 200)
        throw new PassingFailure("the hub refuses to go on in the middle", {});
    }
    for await (const bytes of response.body ?? []) {
      if (part.have + bytes.length > file.sizeBytes) throw mismatch(options);
      await part.append(bytes);
      onBytes(part.have);
    }
  } catch (error) {
    if (error instanceof LibraryError || error instanceof PassingFailure || isDisk(error))
      throw error;
    throw new PassingFailure(`the connection broke at byte ${part.have} of ${file.name}`, {
      cause: error,
    });
  } finally {
    await response.body?.cancel().catch(() => {});
  }
  if (part.have < file.sizeBytes) {
    throw new PassingFailure(`${file.name} ended at byte ${part.have} of ${file.sizeBytes}`, {});
  }
}

/** Whether an answer goes on at a byte, of a file of the right length. */
function startsAt({ status, headers }: Response, from: number, sizeBytes: number): boolean {
  if (from === 0) return status === 200;
  const [, start, total] =
    /^bytes (\d+)-\d+\/(\d+)$/.exec(headers.get("content-range") ?? "") ?? [];
  return status === 206 && Number(start) === from && Number(total) === sizeBytes;
}

/** The beginning of a file, on the disk and in its hashes. */
class Part {
  have = 0;
  readonly #path: string;
  readonly #expected: RepoFile;
  #file: FileHandle;
  #sha256: Hash = createHash("sha256");
  #gitSha1: Hash;

  private constructor(path: string, expected: RepoFile, file: FileHandle) {
    this.#path = path;
    this.#expected = expected;
    this.#file = file;
    this.#gitSha1 = gitBlobHash(expected.sizeBytes);
  }

  /** Goes on with what is there. */
  static async open(path: string, expected: RepoFile): Promise<Part> {
    const part = new Part(path, expected, await open(path, "a"));
    const { size } = await part.#file.stat();
    if (size > expected.sizeBytes) await part.reset();
    else if (size > 0) {
      for await (const bytes of createReadStream(path, { highWaterMark: 1 << 20 }))
        part.#add(bytes);
    }
    return part;
  }

  async append(bytes: Uint8Array): Promise<void> {
    await this.#file.appendFile(bytes);
    this.#add(bytes);
  }

  /** @returns the SHA-256 when all is on the disk and hashes to what was promised */
  async finish(): Promise<string | undefined> {
    await this.#file.sync();
    const sha256 = this.#sha256.copy().digest("hex");
    const { digest } = this.#expected;
    const isRight =
      "sha256" in digest
        ? digest.sha256 === sha256
        : digest.gitSha1 === this.#gitSha1.copy().digest("hex");
    return isRight ? sha256 : undefined;
  }

  async reset(): Promise<void> {
    await this.#file.close();
    await rm(this.#path, { force: true });
    this.#file = await open(this.#path, "a");
    this.have = 0;
    this.#sha256 = createHash("sha256");
    this.#gitSha1 = gitBlobHash(this.#expected.sizeBytes);
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  #add(bytes: Uint8Array): void {
    this.#sha256.update(bytes);
    this.#gitSha1.update(bytes);
    this.have += bytes.length;
  }
}

/** A file that an earlier try has finished, if it is still what it was. */
async function verifiedBefore(target: string, file: RepoFile): Promise<PulledFile | undefined> {
  if (!(await exists(target))) return undefined;
  const { sizeBytes, sha256, gitSha1 } = await hashFile(target);
  const { digest } = file;
  const isRight = "sha256" in digest ? digest.sha256 === sha256 : digest.gitSha1 === gitSha1;
  if (isRight && sizeBytes === file.sizeBytes) return { name: file.name, sizeBytes, sha256 };
  await rm(target);
  return undefined;
}

function mismatch({ file, repo, commit }: DownloadOptions): LibraryError {
  return new LibraryError(
    "digest_mismatch",
    `The bytes of ${file.name} are not those of hf:${repo}@${commit.slice(0, 12)}; they were thrown away.`,
    {
      hint: "Something between here and the hub changes them, such as a proxy or a broken mirror.",
    },
  );
}

function isDisk(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code ?? "";
  return ["ENOSPC", "EDQUOT", "EIO", "EROFS", "EACCES", "EFBIG"].includes(code);
}

const partSuffix = ".incomplete";
/** As much has to arrive between two failures for the count of failures to begin anew. */
const progressBytes = 2 ** 20;
