/**
 * A `multipart/form-data` request on its way to an upstream: its texts in memory, its files on disk, so that the model's
 * name may come after a file and be written anew, and so that a request can be sent a second time elsewhere.
 */
import { createHash, randomBytes } from "node:crypto";
import { type FileHandle, mkdir, open, unlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { HubError } from "../../sdk/protocol/errors.ts";
import { readField, readForm } from "./multipart.ts";

/** A body that is written each time it is sent. */
export type Upload = { contentType: string; bytes: number; open(): Readable };

export type FormFile = {
  name: string;
  filename: string | undefined;
  contentType: string | undefined;
  bytes: number;
  /** The file's first bytes, up to 4 KiB. */
  head: Buffer;
};

/** A form that was read. Its owner closes it when nobody sends it any more. */
export type Form = {
  /** The texts by name; of several with one name all, in order. */
  readonly fields: ReadonlyMap<string, readonly string[]>;
  readonly files: readonly FormFile[];
  /** The same form with other texts in place of those of the same names; a name that was not there is added. */
  write(changes: Readonly<Record<string, string>>): Upload;
  /** SHA-256 of the files' bytes, in order. */
  digest(): Promise<string>;
  close(): Promise<void>;
};

export type FormLimits = {
  /** Of a whole form. */
  formBytesMax: number;
  /** Of all forms that are under way. */
  formsBytesMax: number;
  /** Of a form's texts together. */
  formTextBytesMax: number;
  formPartsMax: number;
};

type Part = { name: string } & (
  | { value: string }
  | { file: FormFile; start: number; bytes: number }
);

/** Keeps the files of forms in a folder, each in a file that has no name any more: nothing is left of it, whatever happens. */
export class Forms {
  readonly #folder: string;
  readonly #limits: FormLimits;
  #bytes = 0;

  /** @param dataDir absent: the system's folder for such */
  constructor(dataDir: string | undefined, limits: FormLimits) {
    this.#folder = dataDir === undefined ? tmpdir() : join(dataDir, "forms");
    this.#limits = limits;
  }

  /**
   * Takes in a form as it comes, and no faster than the disk.
   * @throws HubError `unsupported_media_type`, `invalid_value`, `request_too_large`, `server_is_overloaded`,
   *   `storage_full`, `request_cancelled`
   */
  async read(request: Request): Promise<Form> {
    const { formBytesMax, formTextBytesMax, formPartsMax: partsMax } = this.#limits;
    const length = request.headers.get("content-length");
    if (length !== null && Number(length) > formBytesMax) throw tooLarge(formBytesMax);
    const disk = new Disk(this.#folder, (bytes) => this.#take(bytes));
    const parts: Part[] = [];
    let texts = 0;
    try {
      for await (const part of readForm(request, { partsMax })) {
        const { name, filename, contentType, chunks } = part;
        if (filename === undefined) {
          const value = await readField(part, formTextBytesMax - texts);
          texts += Buffer.byteLength(value);
          parts.push({ name, value });
          continue;
        }
        const start = disk.bytes;
        const head: Uint8Array[] = [];
        let headBytes = 0;
        for await (const chunk of chunks) {
          if (disk.bytes + chunk.length + texts > formBytesMax) throw tooLarge(formBytesMax);
          if (headBytes < headBytesMax) {
            const piece = chunk.subarray(0, headBytesMax - headBytes);
            head.push(Uint8Array.from(piece));
            headBytes += piece.length;
          }
          await disk.append(chunk);
        }
        const bytes = disk.bytes - start;
        const file = { name, filename, contentType, bytes, head: Buffer.concat(head) };
        parts.push({ name, file, start, bytes });
      }
      return toForm(parts, disk);
    } catch (error) {
      await disk.close();
      throw error;
    }
  }

  #take(bytes: number): void {
    if (this.#bytes + bytes > this.#limits.formsBytesMax) {
      throw new HubError(
        "server_is_overloaded",
        "This gateway keeps as many files of requests under way as it may. Try again in a moment.",
        { retryAfterMs: 1000 },
      );
    }
    this.#bytes += bytes;
  }
}

/** The files of one form, one after another in a file without a name. */
class Disk {
  bytes = 0;
  readonly #folder: string;
  readonly #take: (bytes: number) => void;
  #file: FileHandle | undefined;
  #closed = false;

  /** @param take counts bytes, which may throw; what was counted is given back as a negative number */
  constructor(folder: string, take: (bytes: number) => void) {
    this.#folder = folder;
    this.#take = take;
  }

  async append(chunk: Uint8Array): Promise<void> {
    this.#take(chunk.length);
    const position = this.bytes;
    this.bytes += chunk.length;
    try {
      this.#file ??= await openNameless(this.#folder);
      for (let written = 0; written < chunk.length; ) {
        const { bytesWritten } = await this.#file.write(
          chunk,
          written,
          chunk.length - written,
          position + written,
        );
        written += bytesWritten;
      }
    } catch (cause) {
      throw new HubError("storage_full", "This gateway's disk does not take the request's file.", {
        cause,
        retryAfterMs: 1000,
      });
    }
  }

  async *read(start: number, bytes: number): AsyncGenerator<Buffer> {
    for (let read = 0; read < bytes; ) {
      const buffer = Buffer.allocUnsafe(Math.min(chunkBytes, bytes - read));
      const { bytesRead = 0 } =
        (await this.#file?.read(buffer, 0, buffer.length, start + read)) ?? {};
      if (bytesRead === 0) throw new Error("a form's file is shorter than it was");
      read += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#take(-this.bytes);
    await this.#file?.close().catch(() => {});
  }
}

async function openNameless(folder: string): Promise<FileHandle> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const path = join(folder, `switchyard-form-${randomBytes(12).toString("hex")}`);
  const file = await open(path, "wx+", 0o600);
  await unlink(path);
  return file;
}

function toForm(parts: readonly Part[], disk: Disk): Form {
  const fields = new Map<string, string[]>();
  for (const part of parts) {
    if (!("value" in part)) continue;
    const values = fields.get(part.name);
    if (values) values.push(part.value);
    else fields.set(part.name, [part.value]);
  }
  return {
    fields,
    files: parts.flatMap((part) => ("file" in part ? [part.file] : [])),
    write(changes) {
      const kept = parts.filter((part) => !Object.hasOwn(changes, part.name));
      const added = Object.entries(changes).map(([name, value]) => ({ name, value }));
      return toUpload([...added, ...kept], disk);
    },
    async digest() {
      const sha256 = createHash("sha256");
      for await (const chunk of disk.read(0, disk.bytes)) sha256.update(chunk);
      return sha256.digest("hex");
    },
    close: () => disk.close(),
  };
}

function toUpload(parts: readonly Part[], disk: Disk): Upload {
  const boundary = `switchyard-${randomBytes(18).toString("hex")}`;
  const heads = parts.map((part) => Buffer.from(`--${boundary}\r\n${headersOf(part)}\r\n`));
  const end = Buffer.from(`--${boundary}--\r\n`);
  const contents = parts.map((part) => ("value" in part ? Buffer.from(part.value) : part.bytes));
  let bytes = end.length;
  for (const [index, content] of contents.entries()) {
    bytes += (heads[index]?.length ?? 0) + 2;
    bytes += typeof content === "number" ? content : content.length;
  }
  async function* write(): AsyncGenerator<Uint8Array> {
    for (const [index, part] of parts.entries()) {
      yield heads[index] ?? Buffer.alloc(0);
      if ("value" in part) yield Buffer.from(part.value);
      else yield* disk.read(part.start, part.bytes);
      yield Buffer.from("\r\n");
    }
    yield end;
  }
  return {
    contentType: `multipart/form-data; boundary=${boundary}`,
    bytes,
    open: () => Readable.from(write(), { objectMode: false }),
  };
}

/** Names are the client's own words, which must not become headers. */
function headersOf(part: Part): string {
  const named = `content-disposition: form-data; name="${quoted(part.name)}"`;
  if ("value" in part) return `${named}\r\n`;
  const { filename = "file", contentType } = part.file;
  const type = contentType?.replace(/[^\x20-\x7e]/g, "") || "application/octet-stream";
  return `${named}; filename="${quoted(filename)}"\r\ncontent-type: ${type}\r\n`;
}

/** As browsers escape them (HTML, "multipart form data"). */
function quoted(name: string): string {
  return name.replaceAll('"', "%22").replaceAll("\r", "%0D").replaceAll("\n", "%0A");
}

function tooLarge(bytesMax: number): HubError {
  return new HubError(
    "request_too_large",
    `The form is larger than ${bytesMax} bytes, which is the most that is accepted.`,
  );
}

const headBytesMax = 4096;
const chunkBytes = 64 << 10;
