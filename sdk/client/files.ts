/** Files of the key's project: sent from disk and read back, piece by piece. */
import { createReadStream, createWriteStream } from "node:fs";
import { rm, stat } from "node:fs/promises";
import { basename } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type OpenAI from "openai";
import { SwitchyardError } from "./error.ts";
import type { Transport } from "./transport.ts";
import { fileUpload, type UploadProgress } from "./upload.ts";

/** As OpenAI tells of one; times are seconds since 1970. */
export type StoredFile = OpenAI.Files.FileObject;

export type UploadFile = {
  /** What it is for, such as `batch` or `user_data`. */
  purpose: string;
  /** Instead of the file's own name. */
  name?: string | undefined;
  /** From an hour to thirty days; where it is absent, the purpose decides. */
  expiresInSeconds?: number | undefined;
  onProgress?: ((progress: UploadProgress) => void) | undefined;
};

export type DownloadProgress = { receivedBytes: number; totalBytes: number };

export class Files {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** @throws SwitchyardError `invalid_file`, and the server's reasons to refuse one */
  async upload(path: string, file: UploadFile): Promise<StoredFile> {
    const { purpose, name = basename(path), expiresInSeconds, onProgress } = file;
    const fields = {
      purpose,
      ...(expiresInSeconds !== undefined && {
        "expires_after[anchor]": "created_at",
        "expires_after[seconds]": String(expiresInSeconds),
      }),
    };
    const totalBytes = await sizeOf(path);
    const upload = fileUpload(createReadStream(path), { name, totalBytes, fields, onProgress });
    return this.#transport.call("/v1/files", { method: "POST", key: "project", ...upload });
  }

  /** Newest first. */
  list(filter: { purpose?: string | undefined } = {}): Promise<StoredFile[]> {
    return this.#transport.listAll("/v1/files", { key: "project", query: filter });
  }

  get(id: string): Promise<StoredFile> {
    return this.#transport.call(filePath(id), { key: "project" });
  }

  /** Its bytes, as they come. */
  async content(id: string): Promise<ReadableStream<Uint8Array>> {
    const { body } = await this.#transport.send(`${filePath(id)}/content`, { key: "project" });
    return body ?? new ReadableStream({ start: (controller) => controller.close() });
  }

  /**
   * Writes it to disk. A file that is there already is left as it is, and of a transfer that broke off nothing is left.
   * @throws SwitchyardError `invalid_file` where it cannot be written
   */
  async download(
    id: string,
    path: string,
    { onProgress }: { onProgress?: ((progress: DownloadProgress) => void) | undefined } = {},
  ): Promise<StoredFile> {
    const file = await this.get(id);
    const target = createWriteStream(path, { flags: "wx" });
    await new Promise<void>((resolve, reject) => {
      target
        .once("open", () => resolve())
        .once("error", (cause) => reject(unwritable(path, cause)));
    });
    let receivedBytes = 0;
    const source = Readable.fromWeb((await this.content(id)) as never);
    source.on("data", (chunk: Uint8Array) => {
      receivedBytes += chunk.length;
      onProgress?.({ receivedBytes, totalBytes: file.bytes });
    });
    try {
      await pipeline(source, target);
    } catch (cause) {
      await rm(path, { force: true });
      throw new SwitchyardError(`The file '${id}' did not come to its end.`, {
        code: "connection_failed",
        cause,
      });
    }
    return file;
  }

  async delete(id: string): Promise<void> {
    await this.#transport.send(filePath(id), { method: "DELETE", key: "project" });
  }
}

function filePath(id: string): string {
  return `/v1/files/${encodeURIComponent(id)}`;
}

async function sizeOf(path: string): Promise<number> {
  try {
    const found = await stat(path);
    if (found.isFile()) return found.size;
  } catch {
    // Told below, as what is no file is.
  }
  throw new SwitchyardError(`${path} cannot be read, or is no file.`, { code: "invalid_file" });
}

function unwritable(path: string, cause: NodeJS.ErrnoException): SwitchyardError {
  const why = cause.code === "EEXIST" ? "is there already" : `cannot be written (${cause.code})`;
  return new SwitchyardError(`${path} ${why}.`, { code: "invalid_file", cause });
}
