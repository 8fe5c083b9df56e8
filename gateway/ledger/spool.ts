/**
 * Settled requests on local disk until the database has them: append-only segment files, one
 * checksummed line a record. What `append` has acknowledged survives a kill of the process.
 */
import { writeSync } from "node:fs";
import { type FileHandle, mkdir, open, readdir, rm, stat, statfs } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { HubError } from "../../sdk/protocol/errors.ts";
import type { MeteringLimits } from "../metering/config.ts";
import { type FolderLock, lockFolder } from "./folder-lock.ts";

export type SpoolOptions = {
  folder: string;
  limits: Pick<
    MeteringLimits,
    | "segmentBytesMax"
    | "spoolBytesMax"
    | "freeBytesMin"
    | "unwrittenBytesMax"
    | "syncWithinMs"
    | "diskCheckMs"
  >;
  /** Free bytes where the folder lies; asks the file system unless a test says otherwise. */
  freeBytes?: () => Promise<number>;
};

/** Records in the order they were appended, and what to call once they are committed elsewhere. */
export type SpoolBatch = { lines: string[]; commit(): Promise<void> };

type Segment = { path: string; size: number; sealed: boolean };
type Waiting = { bytes: Buffer; resolve: () => void; reject: (error: HubError) => void };

export class Spool {
  readonly #options: SpoolOptions;
  readonly #lock: FolderLock;
  /** Oldest first; the active one, being written, is the last. */
  readonly #segments: Segment[];
  #active: { segment: Segment; file: FileHandle } | undefined;
  #nextNumber: number;
  /** Where the reader is: an offset into the oldest segment. */
  #offset = 0;

  #waiting: Waiting[] = [];
  /** Refused by the disk and already reported as such; still written as soon as it is possible. */
  #unwritten: Buffer[] = [];
  #unwrittenBytes = 0;
  #draining: Promise<void> | undefined;
  #sync: NodeJS.Timeout | undefined;
  #syncing = false;
  readonly #check: NodeJS.Timeout;
  #problem: string | undefined;
  #closed = false;
  #onAppended: () => void = () => {};

  /** Lines whose checksum was wrong, and records that no disk took: both should stay zero. */
  damagedLines = 0;
  lostRecords = 0;

  /** @throws Error when another living process owns the folder, or it cannot be written */
  static async open(options: SpoolOptions): Promise<Spool> {
    await mkdir(options.folder, { recursive: true, mode: 0o700 });
    const lock = await lockFolder(options.folder);
    const names = (await readdir(options.folder)).filter((name) => segmentName.test(name)).sort();
    const segments = await Promise.all(
      names.map(async (name) => {
        const path = join(options.folder, name);
        return { path, size: (await stat(path)).size, sealed: true };
      }),
    );
    const spool = new Spool(options, lock, segments, Number.parseInt(names.at(-1) ?? "0", 10) + 1);
    await spool.#measure();
    return spool;
  }

  private constructor(
    options: SpoolOptions,
    lock: FolderLock,
    segments: Segment[],
    nextNumber: number,
  ) {
    this.#options = options;
    this.#lock = lock;
    this.#segments = segments;
    this.#nextNumber = nextNumber;
    this.#check = setInterval(() => void this.#measure(), options.limits.diskCheckMs);
    this.#check.unref();
  }

  /** Called after records were written; one listener, the ingestion. */
  onAppended(listener: () => void): void {
    this.#onAppended = listener;
  }

  /** Bytes on disk that were not committed yet. */
  get backlogBytes(): number {
    return this.#segments.reduce((sum, segment) => sum + segment.size, 0) - this.#offset;
  }

  /**
   * Asked before work is done for a request.
   * @throws HubError `storage_full` when its record might find no place
   */
  ensureWritable(): void {
    if (this.#problem !== undefined) throw storageFull(this.#problem, this.#options.limits);
  }

  /**
   * Resolves once the operating system has the record: a killed process does not lose it. Within
   * `syncWithinMs` it is also forced onto the disk.
   * @param line JSON without line breaks
   * @throws HubError `storage_full`; the record is still kept in memory and written when possible
   */
  append(line: string): Promise<void> {
    if (this.#closed) return Promise.reject(new HubError("shutting_down", "The spool is closed."));
    return new Promise((resolve, reject) => {
      this.#waiting.push({ bytes: frame(line), resolve, reject });
      this.#draining ??= nextTick().then(() => this.#drain());
    });
  }

  /**
   * The next records that were not committed, or `undefined` when there are none. One reader at a time.
   * @param linesMax the most to return
   */
  async read(linesMax: number): Promise<SpoolBatch | undefined> {
    for (;;) {
      const segment = this.#segments[0];
      if (segment === undefined) return undefined;
      const { lines, end } = await this.#readLines(segment, this.#offset, linesMax);
      if (lines.length > 0) return { lines, commit: () => this.#commit(segment, end) };
      if (!segment.sealed) return undefined;
      // Nothing but a torn last line is left of it.
      await this.#drop(segment);
    }
  }

  /** Every record that was not committed, without taking it; not to be mixed with `read`. */
  async *uncommitted(): AsyncGenerator<string> {
    for (const [index, segment] of this.#segments.entries()) {
      let offset = index === 0 ? this.#offset : 0;
      for (;;) {
        const { lines, end } = await this.#readLines(segment, offset, Number.POSITIVE_INFINITY);
        if (lines.length === 0) break;
        yield* lines;
        offset = end;
      }
    }
  }

  /** Waits for what was appended, forces it onto the disk, and gives the folder free. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#draining;
    clearTimeout(this.#sync);
    clearInterval(this.#check);
    await this.#seal();
    const [only, ...others] = this.#segments;
    if (only !== undefined && others.length === 0 && this.#offset >= only.size)
      await this.#drop(only);
    await this.#lock.release();
  }

  async #drain(): Promise<void> {
    while (this.#waiting.length > 0 || this.#unwritten.length > 0) {
      const group = this.#waiting;
      const again = this.#unwritten;
      this.#waiting = [];
      this.#unwritten = [];
      this.#unwrittenBytes = 0;
      try {
        await this.#write(Buffer.concat([...again, ...group.map(({ bytes }) => bytes)]));
      } catch (error) {
        await this.#fail(error, again, group);
        break;
      }
      for (const { resolve } of group) resolve();
      this.#onAppended();
    }
    this.#draining = undefined;
  }

  async #write(bytes: Buffer): Promise<void> {
    const { segment, file } = this.#active ?? (await this.#begin());
    let written = 0;
    while (written < bytes.length) {
      written += await this.#writeSome(file, bytes, written);
    }
    segment.size += bytes.length;
    this.#sync ??= setTimeout(
      () => void this.#syncNow(),
      this.#options.limits.syncWithinMs,
    ).unref();
    if (segment.size >= this.#options.limits.segmentBytesMax) await this.#seal();
  }

  /**
   * A write into the page cache takes 2 µs, handing it to another thread 20 µs (November 2026, ext4). But
   * while the file is being synced a write may wait for the disk, and then must not hold up the process.
   */
  async #writeSome(file: FileHandle, bytes: Buffer, from: number): Promise<number> {
    if (!this.#syncing) return writeSync(file.fd, bytes, from);
    return (await file.write(bytes, from)).bytesWritten;
  }

  async #begin(): Promise<{ segment: Segment; file: FileHandle }> {
    const name = `${String(this.#nextNumber).padStart(12, "0")}.log`;
    const path = join(this.#options.folder, name);
    const file = await open(path, "ax", 0o600);
    this.#nextNumber++;
    const segment = { path, size: 0, sealed: false };
    this.#segments.push(segment);
    this.#active = { segment, file };
    await syncFolder(this.#options.folder);
    return this.#active;
  }

  /** A half-written group stays behind in a segment of its own, which the reader ends at the torn line. */
  async #fail(error: unknown, again: Buffer[], group: Waiting[]): Promise<void> {
    this.#problem = `the disk refuses to be written: ${describe(error)}`;
    await this.#seal().catch(() => {});
    for (const bytes of [...again, ...group.map((waiting) => waiting.bytes)]) {
      if (this.#unwrittenBytes + bytes.length > this.#options.limits.unwrittenBytesMax) {
        this.lostRecords++;
        continue;
      }
      this.#unwritten.push(bytes);
      this.#unwrittenBytes += bytes.length;
    }
    for (const { reject } of group) reject(storageFull(this.#problem, this.#options.limits));
  }

  async #seal(): Promise<void> {
    if (this.#active === undefined) return;
    const { segment, file } = this.#active;
    this.#active = undefined;
    try {
      await file.datasync();
      segment.size = (await file.stat()).size;
    } finally {
      segment.sealed = true;
      await file.close();
      if (segment.size === 0) await this.#drop(segment);
    }
  }

  async #syncNow(): Promise<void> {
    this.#sync = undefined;
    this.#syncing = true;
    // Sealing syncs and closes the file; one that it took meanwhile needs no second sync.
    await this.#active?.file.datasync().catch(() => {});
    this.#syncing = false;
  }

  /** Keeps `#problem` true: too little room, too much waiting, or a disk that failed and still does. */
  async #measure(): Promise<void> {
    if (this.#closed) return;
    if (this.#unwritten.length + this.#waiting.length > 0) {
      this.#draining ??= nextTick().then(() => this.#drain());
      await this.#draining;
      if (this.#unwritten.length > 0) return;
    }
    const { freeBytesMin, spoolBytesMax } = this.#options.limits;
    const free = await this.#freeBytes().catch(() => 0);
    if (free < freeBytesMin) this.#problem = `${free} bytes are free, ${freeBytesMin} are kept`;
    else if (this.backlogBytes > spoolBytesMax)
      this.#problem = `${this.backlogBytes} bytes of settled requests wait for the database`;
    else this.#problem = undefined;
  }

  async #freeBytes(): Promise<number> {
    if (this.#options.freeBytes) return this.#options.freeBytes();
    const { bavail, bsize } = await statfs(this.#options.folder);
    return bavail * bsize;
  }

  /** Whole lines from `offset`; `end` is where the next read begins. */
  async #readLines(
    segment: Segment,
    offset: number,
    linesMax: number,
  ): Promise<{ lines: string[]; end: number }> {
    const lines: string[] = [];
    let end = offset;
    let length = readBytes;
    while (lines.length === 0 && end < segment.size) {
      const bytes = await readAt(segment.path, end, Math.min(length, segment.size - end));
      let start = 0;
      let newline = bytes.indexOf(NEWLINE);
      while (newline !== -1 && lines.length < linesMax) {
        const line = unframe(bytes.subarray(start, newline));
        if (line === undefined) this.damagedLines++;
        else lines.push(line);
        start = newline + 1;
        newline = bytes.indexOf(NEWLINE, start);
      }
      if (start === 0 && end + bytes.length >= segment.size) break;
      // A line longer than what was read: read more of it.
      if (start === 0) length *= 2;
      end += start;
    }
    return { lines, end };
  }

  async #commit(segment: Segment, end: number): Promise<void> {
    this.#offset = end;
    if (segment.sealed && end >= segment.size) await this.#drop(segment);
  }

  async #drop(segment: Segment): Promise<void> {
    const index = this.#segments.indexOf(segment);
    if (index === -1) return;
    this.#segments.splice(index, 1);
    if (index === 0) this.#offset = 0;
    await rm(segment.path, { force: true });
  }
}

/** `crc32 json\n`: a line that a crash cut off, or a disk changed, does not pass for a record. */
function frame(line: string): Buffer {
  const checksum = crc32(line).toString(16).padStart(8, "0");
  return Buffer.from(`${checksum} ${line}\n`);
}

function unframe(bytes: Buffer): string | undefined {
  const checksum = Number.parseInt(bytes.toString("latin1", 0, 8), 16);
  const line = bytes.subarray(9);
  return bytes[8] === SPACE && crc32(line) === checksum ? line.toString("utf8") : undefined;
}

async function readAt(path: string, position: number, length: number): Promise<Buffer> {
  const file = await open(path, "r");
  try {
    const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(length), 0, length, position);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}

/** A new file's name survives a power cut only once its folder was synced. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function storageFull(problem: string, limits: { diskCheckMs: number }): HubError {
  return new HubError(
    "storage_full",
    `This gateway cannot record what requests cost, so it takes none: ${problem}. Free some disk space.`,
    { retryAfterMs: limits.diskCheckMs },
  );
}

const describe = (error: unknown): string =>
  error instanceof Error ? error.message : String(error);
/** What is appended in one go is written in one go. */
const nextTick = (): Promise<void> => Promise.resolve();

const segmentName = /^\d{12}\.log$/;
const readBytes = 1 << 20;
const NEWLINE = 10;
const SPACE = 32;
